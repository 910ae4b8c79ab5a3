#!/usr/bin/env python3
"""decode.py opens a file that Detach stored, without Detach. It follows docs/format.md.

    decode.py LINK BLOCKS --proof               prints the proof, for which the gateway gives the share
    decode.py LINK BLOCKS --share z...          with that share
    decode.py LINK BLOCKS --key-file EPOCH.key  with the epoch's key file, from which the share follows
    decode.py CID  BLOCKS --key HEX             with the file key, 64 digits

BLOCKS is a CAR file (`ipfs dag export CID`, or the gateway's /ipfs/CID?format=car), or a directory
with a file for each block, named by the block's CID. The attachment goes to the standard output, its
metadata to the standard error. If the object is refused, it says why and exits with 1. It needs
Python 3.9 and python3-cryptography.
"""
import argparse, base64, datetime, hashlib, hmac, json, os, re, sys
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

class Refused(ValueError):
    """The object must not be opened. The text is an outcome in docs/vectors. A ValueError of
    another kind means that the object is malformed."""

def need(condition, otherwise="malformed"):
    if not condition:
        raise Refused(otherwise)

# Conventions.
RAW, DAG_PB = b"\x01\x55\x12\x20", b"\x01\x70\x12\x20"  # how a CID begins; 32 bytes of hash follow
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

def sha256(data): return hashlib.sha256(data).digest()
def mac(key, data): return hmac.digest(key, data, "sha256")
def derive(secret, info): return mac(mac(bytes(32), secret), info + b"\x01")  # HKDF, 32 bytes
def xor(a, b): return bytes(x ^ y for x, y in zip(a, b))
def base32(data): return base64.b32encode(data).decode().lower().rstrip("=")
def cid_text(cid): return "b" + base32(cid)
def parse_time(text): return datetime.datetime.fromisoformat((text or "9999-12-31T23:59:59Z").replace("Z", "+00:00"))

def multibase(text):
    need(text not in ("", "z"), "incomplete")
    need(text[0] == "z" and len(text) <= 45 and set(text[1:]) <= set(BASE58), "invalid")
    number = 0
    for digit in text[1:]:
        number = number * 58 + BASE58.index(digit)
    zeros = len(text[1:]) - len(text[1:].lstrip("1"))
    raw = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    need(len(raw) >= 32, "incomplete")
    need(len(raw) == 32, "invalid")
    return raw

def write_multibase(raw):
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "z" + "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text

def parse_cid(text):
    need(re.fullmatch("b[a-z2-7]{58}", text), "invalid")
    cid = base64.b32decode(text[1:].upper() + "======")
    need(cid[:4] in (RAW, DAG_PB) and cid_text(cid) == text, "invalid")
    return cid

def parse_link(link):
    head, _, fragment = link.partition("#")
    cid = parse_cid(re.sub("/all$", "", head).rpartition("/")[2])
    need(cid[:4] == DAG_PB, "invalid")
    return cid, multibase(fragment)

# Object: blocks, and the nodes of the tree. Protobuf has numbers and byte strings.
def block(store, cid):
    need(cid in store, "not found")
    need(sha256(store[cid]) == cid[4:], "damaged")
    return store[cid]

def read_number(data, at):
    number = shift = 0
    while True:
        need(at < len(data) and shift < 64)
        number, shift, at = number | (data[at] & 127) << shift, shift + 7, at + 1
        if data[at - 1] < 128:
            return number, at

def write_number(n): return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + write_number(n >> 7)

def read_fields(data):
    at, fields = 0, []
    while at < len(data):
        tag, at = read_number(data, at)
        value, at = read_number(data, at)
        if tag & 7 == 2:
            need(at + value <= len(data))
            value, at = data[at:at + value], at + value
        fields.append((tag >> 3, value))
    return fields

def write_field(number, value):
    if isinstance(value, int):
        return write_number(number << 3) + write_number(value)
    return write_number(number << 3 | 2) + write_number(len(value)) + value

def write_node(links, data):
    fields = (b"".join(write_field(i, value) for i, value in enumerate(link, 1)) for link in links)
    return b"".join(write_field(2, link) for link in fields) + write_field(1, data)

def read_node(node):
    """Returns the links, each with CID, name and size of all its blocks, and the UnixFS data."""
    fields = read_fields(node)
    need(all(isinstance(value, bytes) for _, value in fields) and fields)
    links = [tuple(value for _, value in read_fields(link)) for number, link in fields if number == 2]
    need(all(list(map(type, link)) == [bytes, bytes, int] and len(link[0]) == 36 for link in links))
    need(write_node(links, fields[-1][1]) == node)  # a node has one encoding
    return links, fields[-1][1]

def leaves(store, cid, size=None):
    """Yields the leaves of a file. size is what the node above says of it."""
    data = block(store, cid)
    if cid[:4] == RAW:
        need(size in (None, len(data)))
        yield data
        return
    links, unixfs = read_node(data)
    sizes = [value for number, value in read_fields(unixfs) if number == 4]
    need(unixfs == b"\x08\x02" + write_field(3, sum(sizes)) + b"".join(write_field(4, s) for s in sizes))
    need(len(links) == len(sizes) and 0 not in sizes and size in (None, sum(sizes)))
    for (child, _, _), child_size in zip(links, sizes):
        yield from leaves(store, child, child_size)

def read_directory(node):
    """Returns CID and size of the entries, and core: the CID of the directory without origin."""
    links, data = read_node(node)
    names = [name.decode() for _, name, _ in links]
    need(data == b"\x08\x01" and names == sorted(set(names)))
    need({"data", "meta.jwe", "origin"} <= set(names) <= {"data", "encoded", "escrow.age", "meta.jwe", "origin"})
    need(all(cid[:4] == RAW and size <= 8192 for cid, name, size in links if name == b"escrow.age"))
    core = DAG_PB + sha256(write_node([link for link in links if link[1] != b"origin"], data))
    return {name: (cid, size) for name, (cid, _, size) in zip(names, links)}, core

def small_file(store, entry, longest):
    cid, size = entry
    need(cid[:4] == RAW and size <= longest)
    need(len(block(store, cid)) == size)
    return store[cid]

# Epochs, and the header of meta.jwe.
def parse_kid(kid):
    """Returns the epoch, whether the mode is link, and the end."""
    match = re.fullmatch(r"(([0-9]{4}-[0-9]{2})(-[0-9]{2})?\.[a-z2-7]{8})(\.link)?", str(kid))
    need(match)
    midnight = parse_time(match[2] + (match[3] or "-01") + "T00:00:00Z")
    return match[1], bool(match[4]), midnight + datetime.timedelta(days=1) if match[3] else parse_time(None)

def read_jwe(jwe):
    """Returns the kid, and what is sealed: nonce, ciphertext with tag, additional data."""
    parts = jwe.split(b".")
    header, encrypted_key, nonce, text, tag = raw = [base64.urlsafe_b64decode(part + b"==") for part in parts]
    need([base64.urlsafe_b64encode(r).rstrip(b"=") for r in raw] == parts)  # it has one spelling
    need(encrypted_key == b"" and len(nonce) == 12 and len(tag) == 16)
    members = json.loads(header, object_pairs_hook=tuple)
    need(sorted(name for name, _ in members) == ["alg", "enc", "kid"])
    need(dict(members)["alg"] == "dir" and dict(members)["enc"] == "A256GCM")
    return dict(members)["kid"], (nonce, text + tag, parts[0])

# The key tree, and the key file.
def cover(paths, depth=0, prefix=0):
    """Yields depth and prefix of each node that is left, from left to right."""
    if not paths:
        yield depth, prefix
    elif depth < 64:
        for side in (prefix << 1, prefix << 1 | 1):
            yield from cover([p for p in paths if p >> 63 - depth == side], depth + 1, side)

def read_key_file(epoch, data):
    """Returns the service secret, the destroyed paths, and the nodes by depth and prefix."""
    body, service = data[:-32], data[14:46]
    need(body.startswith(b"detach/v1 key\n") and sha256(body) == data[-32:])
    start = 50 + 8 * int.from_bytes(body[46:50], "big")
    need(50 <= start <= len(body))
    paths = [int.from_bytes(body[at:at + 8], "big") for at in range(50, start, 8)]
    need(paths == sorted(set(paths)))
    places = list(cover(paths))
    need(len(body) == start + 32 * len(places))
    need(base32(derive(service, b"detach/v1 epoch id")[:5]) == epoch.split(".")[1])
    return service, paths, {place: body[start + 32 * i:][:32] for i, place in enumerate(places)}

def leaf(nodes, core):
    path = int.from_bytes(core[4:12], "big")
    above = [depth for depth in range(65) if (depth, path >> 64 - depth) in nodes]
    need(above, "destroyed")
    node = nodes[above[0], path >> 64 - above[0]]
    for bit in range(63 - above[0], -1, -1):
        node = mac(node, bytes([path >> bit & 1]))
    return node

def derive_share(epoch, link, key_file, core, origin):
    """Does a gateway's work: the share, if the owner of this key file made the object."""
    service, _, nodes = read_key_file(epoch, key_file)
    need(hmac.compare_digest(mac(derive(service, b"detach/v1 origin"), core + origin[:64]), origin[64:]), "foreign")
    secret = leaf(nodes, core)
    return bytes(32) if link else derive(secret, b"detach/v1 share" + core)

def proof(fragment, core): return derive(fragment, b"detach/v1 ask" + core)

def open_object(store, root, fragment=None, share=None, key_file=None, key=None, now=None, end=None):
    """Returns K, the metadata, and the attachment in pieces. end is that of the share's answer."""
    entries, core = read_directory(block(store, root))
    jwe, origin = small_file(store, entries["meta.jwe"], 65536), small_file(store, entries["origin"], 96)
    need(len(origin) == 96)
    kid, (nonce, sealed, protected) = read_jwe(jwe)
    epoch, link, epoch_end = parse_kid(kid)
    if key_file is not None:
        share = derive_share(epoch, link, key_file, core, origin)
    if key is None:
        need(sha256(proof(fragment, core)) == origin[:32], "wrong key")
        key = xor(fragment, share)
    need(derive(key, b"detach/v1 commit" + core) == origin[32:64], "wrong key")
    try:
        meta = json.loads(AESGCM(derive(key, b"detach/v1 meta")).decrypt(nonce, sealed, protected))
    except InvalidTag:
        raise Refused("wrong key")
    now = now or datetime.datetime.now(datetime.timezone.utc)
    need(now < max(parse_time(meta["expires"]), end or epoch_end), "expired")
    return key, meta, attachment(store, entries["data"][0], key, meta)

def attachment(store, data, key, meta):
    need(sum(map(len, leaves(store, data))) == meta["size"])
    stream, digest = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).decryptor(), hashlib.sha256()
    for piece in leaves(store, data):
        plain = stream.update(piece)
        digest.update(plain)
        yield plain
    need(digest.hexdigest() == meta["sha256"])

def read_file(path):
    with open(path, "rb") as f:
        return f.read()

def read_blocks(path):
    if os.path.isdir(path):
        return {parse_cid(name): read_file(os.path.join(path, name)) for name in os.listdir(path)}
    data, store = read_file(path), {}
    length, at = read_number(data, 0)
    at += length  # the header
    while at < len(data):
        length, at = read_number(data, at)
        store[data[at:at + 36]], at = data[at + 36:at + length], at + length
    return store

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("link"), args.add_argument("blocks")
    one = args.add_mutually_exclusive_group(required=True)
    one.add_argument("--proof", action="store_true")
    one.add_argument("--share"), one.add_argument("--key-file"), one.add_argument("--key")
    args.add_argument("--expires", help="the end in the gateway's answer, if the file was extended")
    a = args.parse_args()
    try:
        root, fragment = parse_link(a.link) if a.key is None else (parse_cid(a.link), None)
        store = read_blocks(a.blocks)
        if a.proof:
            return print(write_multibase(proof(fragment, read_directory(block(store, root))[1])))
        _, meta, pieces = open_object(
            store, root, fragment, a.share and multibase(a.share), a.key_file and read_file(a.key_file),
            a.key and bytes.fromhex(a.key), end=a.expires and parse_time(a.expires))
        for piece in pieces:
            sys.stdout.buffer.write(piece)
    except ValueError as error:
        sys.exit("refused: " + (str(error) if isinstance(error, Refused) else "malformed"))
    print(json.dumps(meta, ensure_ascii=False), file=sys.stderr)

if __name__ == "__main__":
    main()
