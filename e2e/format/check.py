"""Reads docs/vectors with docs/decode.py, as a gateway that holds keys and as a client that holds a
share. The last line is JSON: which files were read, and how many checks were made."""
import base64, datetime, importlib.util, json, pathlib, re, sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

docs = pathlib.Path(__file__).parent / "../../docs"
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("decode", docs / "decode.py")
d = importlib.util.module_from_spec(spec)
spec.loader.exec_module(d)
Refused, need = d.Refused, d.need

read_files, checks, failures = set(), 0, 0

def read(name):
    read_files.add(name)
    return json.loads((docs / "vectors" / name).read_text())

def want(what, got, expected):
    global checks, failures
    checks += 1
    if got != expected:
        failures += 1
        print(f"{what}: got {got!r}, want {expected!r}")

def outcome(call):
    """Returns "ok" and the result, or why it was refused."""
    try:
        return "ok", call()
    except Refused as refused:
        return str(refused), None
    except ValueError:
        return "malformed", None
    except InvalidTag:
        return "refused", None

# Section "Deny list".
def is_denied(text, cid):
    """Returns whether the list denies the object, and the numbers of lines that say nothing."""
    newest, denied, bad = None, False, []
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        dated = re.fullmatch(r"(b[a-z2-7]{58}) b[a-z2-7]{58} (\S+) (deny|undo) (\S+)", line)
        if dated:
            if dated[1] == cid:
                newest = max(newest or ("",), (dated[4], dated[3] == "deny"))
        elif line and not re.search(r"bafybei[a-z2-7]{52}", line):
            bad.append(number)
        elif cid in line:
            denied = True
    return denied or bool(newest and newest[1]), bad

# Section "Extension".
def read_extension(record, new, key_file, root, core):
    """Returns the old epoch, whether the mode is link, and the share."""
    need(len(record) > 37 and len(record) == 98 + record[36] and record[:36] == root, "refused")
    old, mode, nonce = record[37:37 + record[36]], record[-61:-60], record[-60:-48]
    need(mode in (b"\0", b"\1"), "refused")
    key = d.derive(d.leaf(d.read_key_file(new, key_file)[2], core), b"detach/v1 extend" + core)
    share = AESGCM(key).decrypt(nonce, record[-48:], root + old + b"\0" + new.encode() + mode)
    return old.decode(), mode == b"\1", share

def admit(v, store, root):
    """Section "What a gateway serves". Returns the share and the present end."""
    ring = {name: bytes.fromhex(content) for name, content in v["keyring"].items()}
    need(not is_denied(v.get("denied", ""), d.cid_text(root))[0], "revoked")
    entries, core = d.read_directory(d.block(store, root))
    jwe, origin = d.small_file(store, entries["meta.jwe"], 65536), d.small_file(store, entries["origin"], 96)
    need(len(origin) == 96)
    epoch, link, end = d.parse_kid(d.read_jwe(jwe)[0])
    share, key_file = None, ring.get(epoch + ".key")
    marks = f"destroyed/{epoch}/"
    if marks + "all" in ring:
        key_file = None  # it is deleted, if a copy came back
    for name, record in ring.items():
        new = re.fullmatch(f"extended/(.*)/{d.cid_text(core)}", name)
        if new:
            old, mode, share = read_extension(record, new[1], ring[new[1] + ".key"], root, core)
            need((old, mode) == (epoch, link), "foreign")
            end = max(end, d.parse_kid(new[1])[2])
    if share is None or key_file is not None:
        unproven = "destroyed" if marks + "all" in ring else "key missing"
        need(key_file is not None, unproven if v.get("indexed") else "foreign")
        share = d.derive_share(epoch, link, key_file, core, origin)
    need(marks + d.cid_text(core) not in ring, "destroyed")
    need(d.parse_time(v["now"]) < end, "expired")
    return share, end

def check_object(name):
    v = read(name)
    store = {d.parse_cid(b["cid"]): base64.b64decode(b["data"]) for b in v["blocks"]}
    now = d.parse_time(v["now"])

    def open_with(root, **how):
        key, meta, pieces = d.open_object(store, root, now=now, **how)
        return key, meta, b"".join(pieces)

    def by_gateway():
        root, fragment = d.parse_link(v["link"])
        share, end = admit(v, store, root)
        want(f"{name}: share", share, d.multibase(v["share"]))
        return open_with(root, fragment=fragment, share=share, end=end)

    def by_client():
        root, fragment = d.parse_link(v["link"])
        end = "expires" in v and d.parse_time(v["expires"])
        return open_with(root, fragment=fragment, share=d.multibase(v["share"]), end=end)

    got, opened = outcome(by_gateway)
    want(f"{name}: gateway", got, v["expect"])
    if v["expect"] == "ok" or v.get("client"):
        want(f"{name}: client", outcome(by_client), (v["expect"], opened))
    if v["expect"] != "ok":
        return
    root, fragment = d.parse_link(v["link"])
    entries, core = d.read_directory(store[root])
    want(f"{name}: opened", opened, (bytes.fromhex(v["key"]), v["meta"], base64.b64decode(v["attachment"])))
    want(f"{name}: core", d.cid_text(core), v["core"])
    want(f"{name}: origin", d.small_file(store, entries["origin"], 96).hex(), v["origin"])
    want(f"{name}: proof", d.write_multibase(d.proof(fragment, core)), v["proof"])
    end = "expires" in v and d.parse_time(v["expires"])
    want(f"{name}: key", outcome(lambda: open_with(root, key=opened[0], end=end)), ("ok", opened))
    if "identity" in v:
        want(f"{name}: escrow", open_age(d.small_file(store, entries["escrow.age"], 8192), v["identity"]), opened[0])

def open_age(file, identity):
    """Opens an age file (https://age-encryption.org/v1) of one X25519 recipient and one short chunk."""
    def hkdf(secret, salt, info): return HKDF(SHA256(), 32, salt, info).derive(secret)
    def unbase64(text): return base64.b64decode(text + b"=" * (-len(text) % 4))
    digits = ["qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(c) for c in identity.lower()[len("age-secret-key-1"):-6]]
    number = sum(digit << 5 * i for i, digit in enumerate(reversed(digits)))
    private = X25519PrivateKey.from_private_bytes((number >> 5 * len(digits) - 256).to_bytes(32, "big"))
    intro, stanza, wrapped, end, payload = file.split(b"\n", 4)
    want("escrow: header", (intro, stanza[:9], end[:4]), (b"age-encryption.org/v1", b"-> X25519", b"--- "))
    ephemeral = unbase64(stanza[10:])
    shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    salt = ephemeral + private.public_key().public_bytes_raw()
    file_key = ChaCha20Poly1305(hkdf(shared, salt, b"age-encryption.org/v1/X25519")).decrypt(bytes(12), unbase64(wrapped), None)
    return ChaCha20Poly1305(hkdf(file_key, payload[:16], b"payload")).decrypt(bytes(11) + b"\1", payload[16:], None)

def tree(root, paths):
    """Returns the nodes that are left, by depth and prefix, from left to right."""
    def node(depth, prefix):
        here = root
        for bit in range(depth - 1, -1, -1):
            here = d.mac(here, bytes([prefix >> bit & 1]))
        return here
    return {place: node(*place) for place in d.cover(sorted(paths))}

def check_tree(v):
    nodes = tree(bytes.fromhex(v["root"]), [int(p, 16) for p in v["punctured"]])
    want(f"tree, {v['comment']}: cover", d.sha256(b"".join(nodes.values())).hex(), v["cover_sha256"])
    want(f"tree, {v['comment']}: nodes", len(nodes), v["nodes"])
    if "cover" in v:
        want(f"tree, {v['comment']}: nodes", [n.hex() for n in nodes.values()], v["cover"])
    for l in v["leaves"]:
        core = d.DAG_PB + bytes.fromhex(l["path"]) + bytes(24)
        want(f"tree, {v['comment']}: {l['path']}", outcome(lambda: d.leaf(nodes, core).hex()), ("ok", l["leaf"]) if l["leaf"] else ("destroyed", None))

def check_key_file(v):
    got, parts = outcome(lambda: d.read_key_file(v["epoch"], bytes.fromhex(v["file"])))
    want(f"key file, {v['comment']}", got, v["expect"])
    if got == "ok":
        want(f"key file, {v['comment']}: service secret", parts[0].hex(), v["service_secret"])
        want(f"key file, {v['comment']}: punctured", [f"{p:016x}" for p in parts[1]], v.get("punctured", []))

def check_merge(v):
    a, b, merged = (d.read_key_file(v["epoch"], bytes.fromhex(v[name])) for name in ("a", "b", "merged"))
    want(f"merge, {v['comment']}: paths", sorted(set(a[1]) | set(b[1])), merged[1])
    for place, node in merged[2].items():  # it follows from a node of both
        for part in (a[2], b[2]):
            core = d.DAG_PB + (place[1] << 64 - place[0]).to_bytes(8, "big")
            for bit in range(63 - place[0], -1, -1):
                node = d.mac(node, b"\0")
            want(f"merge, {v['comment']}: {place}", d.leaf(part, core), node)
            node = merged[2][place]

def open_ticket(v):
    match = re.fullmatch(r"(.*\..{8})\.([0-9-]{10})\.([A-Za-z0-9_-]*)", v["ticket"])
    need(match and match[1] == v["epoch"], "refused")
    sealed = base64.urlsafe_b64decode(match[3] + "=" * (-len(match[3]) % 4))
    key = d.derive(d.read_key_file(match[1], bytes.fromhex(v["key_file"]))[0], b"detach/v1 ticket" + match[2].encode())
    plain = AESGCM(key).decrypt(sealed[:12], sealed[12:], d.parse_cid(v["cid"]))
    need(d.parse_time(v["now"]).timestamp() < int.from_bytes(plain[32:], "big"), "refused")
    return plain

def check_ticket(v):
    got, plain = outcome(lambda: open_ticket(v))
    want(f"ticket, {v['comment']}", got, v["expect"])
    if got == "ok":
        want("ticket: fragment", plain[:32], d.multibase(v["fragment"]))
        want("ticket: until", int.from_bytes(plain[32:], "big"), d.parse_time(v["until"]).timestamp())

def check_extension(v):
    def read():
        record = bytes.fromhex(v["record"]), v["new"], bytes.fromhex(v["key_file"])
        old, link, share = read_extension(*record, d.parse_cid(v["root"]), d.parse_cid(v["core"]))
        need(old == v["old"], "refused")
        return link, share
    got, parts = outcome(read)
    want(f"extension, {v['comment']}", "ok" if got == "ok" else "refused", v["expect"])
    if got == "ok":
        want(f"extension, {v['comment']}: parts", parts, (v["link"], d.multibase(v["share"])))

def check_kids(v):
    for kid in v["valid"]:
        end = d.parse_time(kid["ends"])
        want(f"kid {kid['kid']!r}", outcome(lambda: d.parse_kid(kid["kid"])), ("ok", (kid["epoch"], kid["link"], end)))
    for kid in v["invalid"]:
        want(f"kid {kid!r}", outcome(lambda: d.parse_kid(kid)), ("malformed", None))

objects = sorted(path.name for path in (docs / "vectors").glob("object-*.json"))
for name in objects:
    check_object(name)
for name, check in {"tree.json": check_tree, "ticket.json": check_ticket, "extension.json": check_extension}.items():
    for v in read(name):
        check(v)
key_files = read("keyfile.json")
for v in key_files["files"]:
    check_key_file(v)
for v in key_files["merges"]:
    check_merge(v)
for v in read("denied.json"):
    want(f"denied, {v['comment']}", is_denied(v["text"], v["cid"]), (v["denied"], v["bad"]))
check_kids(read("kid.json"))
print(json.dumps({"read": sorted(read_files), "checks": checks, "failures": failures}))
sys.exit(failures > 0)
