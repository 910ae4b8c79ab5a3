#!/usr/bin/env python3
"""decode.py opens a file that Detach stored, and uses nothing of Detach. It follows docs/format.md.

    decode.py LINK BLOCKS --share z...          the share, as the gateway answers it
    decode.py LINK BLOCKS --key-file EPOCH.key  the epoch's key file, from which the share follows
    decode.py CID  BLOCKS --key HEX             the file key, 64 digits

BLOCKS is a CAR file (`ipfs dag export CID`, or the gateway's /ipfs/CID?format=car), or a directory
with a file for each block, which has the block's CID as its name. The attachment goes to the
standard output, and its metadata as JSON to the standard error. It ends with 1 and says why if the
object is refused. It needs Python 3.9 and python3-cryptography.
"""
import argparse, base64, datetime, hashlib, hmac, json, os, re, sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

RAW, DAG_PB = b"\x01\x55\x12\x20", b"\x01\x70\x12\x20"  # how a CID begins; 32 bytes of hash follow
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
NEVER = datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)

class Refused(Exception):
    """The object must not be opened. The text is one of the outcomes in docs/vectors."""

def need(condition, otherwise="malformed"):
    if not condition:
        raise Refused(otherwise)

# Section "Conventions".
def sha256(data): return hashlib.sha256(data).digest()
def mac(key, data): return hmac.new(key, data, hashlib.sha256).digest()
def derive(secret, info): return mac(mac(bytes(32), secret), info + b"\x01")  # HKDF, 32 bytes
def xor(a, b): return bytes(x ^ y for x, y in zip(a, b))

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

def parse_cid(text):
    need(re.fullmatch("b[a-z2-7]{58}", text), "invalid")
    cid = base64.b32decode(text[1:].upper() + "======")
    need(cid[:4] in (RAW, DAG_PB) and cid_text(cid) == text, "invalid")
    return cid

def cid_text(cid): return "b" + base64.b32encode(cid).decode().lower().rstrip("=")

def parse_link(link):
    head, _, fragment = link.partition("#")
    cid = parse_cid(re.sub("/all$", "", head).rpartition("/")[2])
    need(cid[:4] == DAG_PB, "invalid")
    return cid, multibase(fragment)

# Section "Object": blocks, and the nodes of the tree. Protobuf has numbers and byte strings.
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
        need(tag & 7 in (0, 2) and (tag & 7 == 0 or at + value <= len(data)))
        if tag & 7 == 2:
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
    links = [tuple(value for _, value in read_fields(link)) for n, link in fields if n == 2 and isinstance(link, bytes)]
    need(fields and isinstance(fields[-1][1], bytes) and all(len(link) == 3 and isinstance(link[0], bytes) for link in links))
    need(all(len(cid) == 36 and cid[:4] in (RAW, DAG_PB) for cid, _, _ in links))
    need(write_node(links, fields[-1][1]) == node)  # a node has one encoding
    return links, fields[-1][1]

def leaves(store, cid, size=None):
    """Yields the leaves of a file. size is what the node above says of it."""
    data = block(store, cid)
    if cid[:4] == RAW:
        need(size is None or len(data) == size)
        yield data
        return
    links, unixfs = read_node(data)
    sizes = [value for number, value in read_fields(unixfs) if number == 4]
    total = sum(sizes)
    need(unixfs == b"\x08\x02" + write_field(3, total) + b"".join(write_field(4, s) for s in sizes))
    need(len(links) == len(sizes) and 0 not in sizes and size in (None, total))
    for (child, _, _), child_size in zip(links, sizes):
        yield from leaves(store, child, child_size)

def read_directory(node):
    """Returns the entries, and core: the CID of the directory without origin."""
    links, data = read_node(node)
    names = [name for _, name, _ in links]
    need(data == b"\x08\x01" and names == sorted(set(names)))
    need({b"data", b"meta.jwe", b"origin"} <= set(names) <= {b"data", b"encoded", b"escrow.age", b"meta.jwe", b"origin"})
    need(all(cid[:4] == RAW and tsize <= 8192 for cid, name, tsize in links if name == b"escrow.age"))
    core = DAG_PB + sha256(write_node([link for link in links if link[1] != b"origin"], data))
    return {name.decode(): (cid, tsize) for cid, name, tsize in links}, core

def small_file(store, entry, longest):
    cid, tsize = entry
    need(cid[:4] == RAW and tsize <= longest)
    need(len(block(store, cid)) == tsize)
    return store[cid]

# Section "Epochs" and "meta.jwe".
def parse_kid(kid):
    """Returns the epoch, whether the mode is link, and the end."""
    match = isinstance(kid, str) and re.fullmatch(r"(([0-9]{4}-[0-9]{2})(-[0-9]{2})?\.[a-z2-7]{8})(\.link)?", kid)
    need(match)
    try:
        day = datetime.date.fromisoformat(match[2] + (match[3] or "-01"))
    except ValueError:
        raise Refused("malformed")
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.timezone.utc)
    return match[1], bool(match[4]), midnight + datetime.timedelta(days=1) if match[3] else NEVER

def read_jwe(jwe):
    """Returns the kid, and what is sealed: nonce, ciphertext with tag, additional data."""
    parts = jwe.split(b".")
    need(len(parts) == 5 and all(re.fullmatch(rb"[A-Za-z0-9_-]*", part) for part in parts))
    raw = [base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)) if len(part) % 4 != 1 else b"" for part in parts]
    need([base64.urlsafe_b64encode(r).rstrip(b"=") for r in raw] == parts)
    need(raw[1] == b"" and len(raw[2]) == 12 and len(raw[4]) == 16)
    try:
        header = json.loads(raw[0], object_pairs_hook=list)
    except ValueError:
        raise Refused("malformed")
    need(isinstance(header, list) and sorted(header)[:2] == [("alg", "dir"), ("enc", "A256GCM")] and len(header) == 3)
    need(sorted(header)[2][0] == "kid")
    return sorted(header)[2][1], (raw[2], raw[3] + raw[4], parts[0])

# Sections "The key tree" and "Key file".
def cover(paths, depth=0, prefix=0):
    """Yields depth and prefix of each node that is left, from left to right."""
    if not paths:
        yield depth, prefix
    elif depth < 64:
        for side in (prefix << 1, prefix << 1 | 1):
            yield from cover([p for p in paths if p >> 63 - depth == side], depth + 1, side)

def read_key_file(epoch, data):
    """Returns the service secret, the destroyed paths, and the nodes by depth and prefix."""
    body, magic = data[:-32], b"detach/v1 key\n"
    need(body.startswith(magic) and len(body) >= 50 and sha256(body) == data[-32:])
    service, count = body[14:46], int.from_bytes(body[46:50], "big")
    need(len(body) >= 50 + 8 * count)
    paths = [int.from_bytes(body[50 + 8 * i:58 + 8 * i], "big") for i in range(count)]
    need(paths == sorted(set(paths)))
    places, nodes = list(cover(paths)), body[50 + 8 * count:]
    need(len(nodes) == 32 * len(places))
    need(base64.b32encode(derive(service, b"detach/v1 epoch id")[:5]).decode().lower() == epoch.split(".")[1])
    return service, paths, {place: nodes[32 * i:32 * i + 32] for i, place in enumerate(places)}

def leaf(nodes, core):
    path = int.from_bytes(core[4:12], "big")
    for depth in range(65):
        if (depth, path >> 64 - depth) in nodes:
            node = nodes[depth, path >> 64 - depth]
            for bit in range(63 - depth, -1, -1):
                node = mac(node, bytes([path >> bit & 1]))
            return node
    raise Refused("destroyed")

def derive_share(epoch, link, key_file, core, origin):
    """What a gateway does: the share, if the object is one that this key file's owner made."""
    service, _, nodes = read_key_file(epoch, key_file)
    need(hmac.compare_digest(mac(derive(service, b"detach/v1 origin"), core + origin[:64]), origin[64:]), "foreign")
    secret = leaf(nodes, core)
    return bytes(32) if link else derive(secret, b"detach/v1 share" + core)

# Sections "Origin" and "Object".
def open_object(store, root, fragment=None, share=None, key_file=None, key=None, now=None, end=None):
    """Returns K, the metadata, and the attachment in pieces. end is that of the share's answer."""
    entries, core = read_directory(block(store, root))
    jwe, origin = small_file(store, entries["meta.jwe"], 65536), small_file(store, entries["origin"], 96)
    need(len(origin) == 96)
    kid, (nonce, sealed, protected) = read_jwe(jwe)
    epoch, link, epoch_end = parse_kid(kid)
    now = now or datetime.datetime.now(datetime.timezone.utc)
    if key_file is not None:
        share = derive_share(epoch, link, key_file, core, origin)
    if key is None:
        need(sha256(derive(fragment, b"detach/v1 ask" + core)) == origin[:32], "wrong key")
        key = xor(fragment, share)
    need(derive(key, b"detach/v1 commit" + core) == origin[32:64], "wrong key")
    try:
        meta = json.loads(AESGCM(derive(key, b"detach/v1 meta")).decrypt(nonce, sealed, protected))
    except InvalidTag:
        raise Refused("wrong key")
    need(now < max(parse_time(meta["expires"]), end or epoch_end), "expired")
    return key, meta, attachment(store, entries["data"][0], key, meta)

def parse_time(text): return NEVER if text is None else datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))

def attachment(store, data, key, meta):
    need(sum(map(len, leaves(store, data))) == meta["size"])
    stream, digest = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).decryptor(), hashlib.sha256()
    for piece in leaves(store, data):
        plain = stream.update(piece)
        digest.update(plain)
        yield plain
    need(digest.hexdigest() == meta["sha256"], "damaged")

def read_blocks(path):
    if os.path.isdir(path):
        return {parse_cid(name): open(os.path.join(path, name), "rb").read() for name in os.listdir(path)}
    data, store = open(path, "rb").read(), {}
    length, at = read_number(data, 0)
    at += length  # the header
    while at < len(data):
        length, at = read_number(data, at)
        store[data[at:at + 36]], at = data[at + 36:at + length], at + length
    return store

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("link"), args.add_argument("blocks")
    args.add_argument("--share"), args.add_argument("--key-file"), args.add_argument("--key")
    args.add_argument("--expires", help="the end in the gateway's answer, if the file was extended")
    a = args.parse_args()
    if [a.share, a.key_file, a.key].count(None) != 2:
        args.error("give one of --share, --key-file and --key")
    try:
        root, fragment = parse_link(a.link) if a.key is None else (parse_cid(a.link), None)
        _, meta, pieces = open_object(
            read_blocks(a.blocks), root, fragment, share=a.share and multibase(a.share),
            key_file=a.key_file and open(a.key_file, "rb").read(), key=a.key and bytes.fromhex(a.key),
            end=a.expires and parse_time(a.expires))
        for piece in pieces:
            sys.stdout.buffer.write(piece)
    except Refused as refused:
        sys.exit(f"refused: {refused}")
    print(json.dumps(meta, ensure_ascii=False), file=sys.stderr)

if __name__ == "__main__":
    main()
