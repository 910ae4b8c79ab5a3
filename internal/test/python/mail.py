"""Takes mails apart with Python's email package, which shares no code with Detach.

Each line of the input is a JSON object: {"mail": base64, "raw": true, "seen": true, "defects": true}.
What is asked for beside the tree is explained in python.go, as are the fields of the output. Each
line of the output is the mail's tree, or {"error": …}.
"""

import base64
import email
import email.header
import email.message
import email.policy
import hashlib
import html.parser
import json
import re
import sys
import urllib.parse


class Mail(email.message.Message):
    """A mail that Python reads as mail programs do."""

    def get_boundary(self, failobj=None):
        """Unfolds a boundary that was folded within its quotes (RFC 5322, 2.2.3)."""
        boundary = super().get_boundary(failobj)
        return re.sub(r"\r?\n(?=[ \t])", "", boundary) if boundary else boundary

    def get(self, name, failobj=None):
        """Reads `base64 `, with a blank at its end, as base64."""
        value = super().get(name, failobj)
        return value.strip() if name == "content-transfer-encoding" and value else value


def quietly(f):
    """Real headers cause all kinds of errors."""
    try:
        return f() or ""
    except Exception:
        return ""


def header(value):
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except Exception:  # the raw text is good enough
        return str(value)


def plain(text):
    """JSON has no lone surrogates, which stand for raw 8-bit bytes."""
    return str(text).encode("utf-8", "replace").decode()


def names(defects):
    return sorted(type(d).__name__ for d in defects)


def decoded(part, data):
    """The text of a part, and whether its bytes are valid in the charset that it declares."""
    charset = quietly(part.get_content_charset) or "utf-8"
    for encoding in [charset, "latin-1"]:
        try:
            return data.decode(encoding), encoding == charset
        except (UnicodeDecodeError, ValueError):
            return data.decode(encoding, "replace"), False
        except LookupError:
            continue


def take(part, want):
    out = {
        "type": part.get_content_type(),
        "disposition": quietly(part.get_content_disposition),
        "name": plain(header(quietly(part.get_filename))),
        "named": bool(quietly(part.get_filename) or quietly(lambda: part.get_param("name"))),
        "cid": plain(part.get("content-id") or ""),
        "location": plain(part.get("content-location") or ""),
        "encoding": plain(part.get("content-transfer-encoding") or "7bit").lower(),
        "fields": sorted(k.lower() for k in part.keys() if k.lower().startswith("content-")),
        "defects": names(part.defects),
    }
    if part.is_multipart():
        out["parts"] = [take(p, want) for p in part.get_payload()]
        return out
    data = part.get_payload(decode=True) or b""
    out["sha256"] = hashlib.sha256(data).hexdigest()
    out["size"] = len(data)
    if part.get_content_maintype() == "text":
        text, out["readable"] = decoded(part, data)
        out["text"] = plain(text)
    raw = part.get_payload()
    if want.get("raw") and isinstance(raw, str):
        out["raw"] = base64.b64encode(raw.encode("utf-8", "surrogateescape")).decode()
    return out


class References(html.parser.HTMLParser):
    """Collects everything in an HTML that may hold a URL: attributes and style sheets."""

    def __init__(self, text):
        super().__init__()
        self.values = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.values += [value for _, value in attrs if value]

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        if self.lasttag == "style":
            self.values.append(data)


def same(url):
    """Makes two ways to write a URL or an ID the same."""
    return re.sub(r"\s+", "", urllib.parse.unquote(header(url))).casefold()


def leaves(node):
    if "parts" not in node:
        yield node
    for child in node.get("parts", []):
        yield from leaves(child)


def refer(root):
    """Notes at each part which HTML parts of the mail refer to it, by their SHA-256."""
    parts = [(p, same(p["cid"]).strip("<>"), same(p["location"])) for p in leaves(root) if p["cid"] or p["location"]]
    for page in leaves(root):
        if not parts or page["type"] != "text/html" or page["disposition"] == "attachment":
            continue
        try:
            values = [same(v) for v in References(page["text"]).values]
        except Exception as error:
            print("references:", error, file=sys.stderr)
            continue
        everything = "\n".join(values)
        urls = set(values) | set(u.strip("'\"") for u in re.findall(r"url\(([^)]*)\)", everything))
        for part, cid, location in parts:
            if cid and "cid:" + cid in everything or location and location in urls:
                part.setdefault("shownby", []).append(page["sha256"])


def strict_defects(mail):
    """What the newer policy of Python's email package finds wrong, also in single fields.

    A multipart whose boundary it does not understand is a defect only of the outermost entity.
    """
    found = []
    for part in email.message_from_bytes(mail, policy=email.policy.default).walk():
        found += names(part.defects)
        for name, value in part.raw_items():
            if not name.lower().startswith("content-"):
                continue
            try:
                found += [name.lower() + ": " + d for d in names(part.policy.header_fetch_parse(name, value).defects)]
            except Exception as error:
                found.append(name.lower() + ": " + type(error).__name__)
    return sorted(d for d in found if d != "MultipartInvariantViolationDefect")


def take_apart(mail, want):
    root = email.message_from_bytes(mail, _class=Mail, policy=email.policy.compat32)
    out = {
        "root": take(root, want),
        "subject": plain(header(root.get("Subject", ""))),
        "restore": plain(header(root.get("Detach-Restore", ""))),
    }
    if want.get("seen"):
        refer(out["root"])
    if want.get("defects"):
        out["defects"] = strict_defects(mail)
    return out


for line in sys.stdin:
    try:
        want = json.loads(line)
        result = take_apart(base64.b64decode(want["mail"]), want)
    except Exception as error:
        result = {"error": repr(error)}
    print(json.dumps(result), flush=True)
