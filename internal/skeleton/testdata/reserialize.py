"""Reads a mail, and prints it as Python's email package writes it anew: a JSON object of names and mails.

Mailing lists, archivers and filters do this, each with its own policy."""

import email, email.generator, email.header, email.policy, io, json, sys
from email.message import EmailMessage
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

FIELD = "Detach-Restore"
P = email.policy
POLICIES = {
    "compat32": P.compat32, "compat32, short lines": P.compat32.clone(max_line_length=40),
    "default": P.default, "SMTP": P.SMTP, "SMTPUTF8": P.SMTPUTF8, "HTTP": P.HTTP, "7bit": P.SMTP.clone(cte_type="7bit"),
    "short lines": P.default.clone(max_line_length=40), "long lines": P.default.clone(max_line_length=998), "no limit": P.default.clone(max_line_length=0),
    "refold all": P.SMTP.clone(refold_source="all"), "refold none": P.SMTP.clone(refold_source="none"), "UTF-8, refold all": P.SMTPUTF8.clone(refold_source="all"),
}

raw = sys.stdin.buffer.read()
out = {}


def parse(policy=P.compat32):
    return email.message_from_bytes(raw, policy=policy)


for name, policy in POLICIES.items():
    out[name] = parse(policy).as_bytes()
    m = parse(policy)
    value = m[FIELD]
    del m[FIELD]
    m[FIELD] = value
    out[name + ", set anew"] = m.as_bytes()
    mbox = io.BytesIO()
    email.generator.BytesGenerator(mbox, mangle_from_=True, maxheaderlen=60).flatten(parse(policy), unixfrom=True)
    out[name + ", in an mbox"] = mbox.getvalue()

for charset in ("us-ascii", "utf-8", "iso-8859-1", "iso-2022-jp", "utf-7"):
    for length in (40, 76):
        m = parse()
        value = m[FIELD]
        del m[FIELD]
        m[FIELD] = email.header.Header(value, charset, maxlinelen=length, header_name=FIELD)
        out[f"words in {charset}, {length}"] = m.as_bytes()

outer = EmailMessage(P.SMTP)
outer["Subject"] = "Fwd"
outer.set_content("see below")
outer.add_attachment(parse(P.default))
out["forwarded"] = outer.as_bytes()
for name, part in {"forwarded, compat32": MIMEMessage(parse()), "forwarded, in base64": MIMEText(raw.decode(), "plain", "utf-8")}.items():
    outer = MIMEMultipart()
    outer["Subject"] = "Fwd"
    outer.attach(MIMEText("see below"))
    outer.attach(part)
    out[name] = outer.as_bytes()

json.dump({name: mail.decode("utf-8", "surrogateescape") for name, mail in out.items()}, sys.stdout)
