"""Takes mails apart with Python's email package, which shares no code with Detach.

One JSON object a line comes in, {"mail": base64}, and one goes out: the leaves of the mail's tree in their order, each with
what a table of what is detached goes by, and the SHA-256 of what it decodes to.
"""

import base64
import email
import email.message
import email.policy
import hashlib
import json
import re
import sys


class Mail(email.message.Message):
    def get_boundary(self, failobj=None):
        """Unfolds a boundary that was folded within its quotes (RFC 5322, 2.2.3)."""
        boundary = super().get_boundary(failobj)
        return re.sub(r"\r?\n(?=[ \t])", "", boundary) if boundary else boundary

    def get(self, name, failobj=None):
        """Takes `base64 `, with a blank behind it, for base64."""
        value = super().get(name, failobj)
        return value.strip() if name == "content-transfer-encoding" and value else value


def quietly(f):
    """Real headers make every error there is."""
    try:
        return f() or ""
    except Exception:
        return ""


def leaf(part, above):
    data = part.get_payload(decode=True) or b""
    raw = part.get_payload()
    return {
        "type": part.get_content_type(),
        "above": above,
        "disposition": quietly(part.get_content_disposition),
        "named": bool(quietly(part.get_filename) or quietly(lambda: part.get_param("name"))),
        "cid": str(part.get("content-id") or ""),
        "encoding": str(part.get("content-transfer-encoding") or "7bit").lower(),
        "fields": sorted(k.lower() for k in part.keys() if k.lower().startswith("content-")),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "raw": base64.b64encode(raw.encode("utf-8", "surrogateescape")).decode() if isinstance(raw, str) else "",
        "defects": sorted(type(d).__name__ for d in part.defects),
    }


def walk(part, above):
    if not part.is_multipart():
        yield leaf(part, above)
        return
    defects = [type(d).__name__ for d in part.defects]
    for child in part.get_payload():
        yield from walk(child, above + [" ".join([part.get_content_type()] + defects)])


for line in sys.stdin:
    try:
        root = email.message_from_bytes(base64.b64decode(json.loads(line)["mail"]), _class=Mail, policy=email.policy.compat32)
        result = {"leaves": list(walk(root, []))}
    except Exception as error:
        result = {"error": repr(error)}
    sys.stdout.write(json.dumps(result, ensure_ascii=True, default=str) + "\n")
    sys.stdout.flush()
