"""Takes mails apart with Python's email package, which shares no code with Detach.

The input is one JSON object a line, {"mail": base64}. The output is one for each: the leaves of the
mail's tree, with the SHA-256 of each decoded leaf, and the text of text leaves.
"""

import base64
import email
import email.header
import email.message
import email.policy
import hashlib
import json
import re
import sys


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


def header(value):
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except Exception:  # real headers cause all kinds of errors; the raw text is good enough
        return str(value)


def filename(part):
    try:
        name = part.get_filename()
        return header(name) if name else ""
    except Exception:
        return ""


def leaf(part):
    data = part.get_payload(decode=True) or b""
    out = {
        "type": part.get_content_type(),
        "name": filename(part),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "text": "",
    }
    if part.get_content_maintype() == "text":
        try:
            out["text"] = data.decode(str(part.get_content_charset("utf-8")), "replace")
        except LookupError:
            out["text"] = data.decode("latin-1")
    # JSON has no lone surrogates, which stand for raw 8-bit bytes.
    out["name"] = out["name"].encode("utf-8", "replace").decode()
    out["text"] = out["text"].encode("utf-8", "replace").decode()
    return out


def take_apart(mail):
    root = email.message_from_bytes(mail, _class=Mail, policy=email.policy.compat32)
    return {
        "leaves": [leaf(p) for p in root.walk() if not p.is_multipart()],
        "subject": header(root.get("Subject", "")).encode("utf-8", "replace").decode(),
        "restore": header(root.get("Detach-Restore", "")).encode("utf-8", "replace").decode(),
    }


for line in sys.stdin:
    try:
        result = take_apart(base64.b64decode(json.loads(line)["mail"]))
    except Exception as error:
        result = {"error": repr(error)}
    print(json.dumps(result), flush=True)
