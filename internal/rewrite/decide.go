package rewrite

import (
	"path"
	"slices"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

type action int

const (
	actionKeep    action = iota // keep the entity unchanged, with everything in it
	actionText                  // keep the text, which may take the notice
	actionDescend               // walk the parts of a multipart
	actionDetach
)

// A verdict says what to do with one entity.
type verdict struct {
	action   action
	boundary string // actionDescend
	order    order  // actionDescend
	mimeType string // actionDetach
	encoding string // actionDetach
	small    bool   // actionDetach: the size of the part does not matter
	nameless bool   // actionDetach: the part has no file name, or one that says nothing

	shown    bool // see entity
	aside    bool // see entity
	opaque   bool // see entity
	refers   bool // a kept part whose text may refer to other parts
	calendar bool // the part is a text/calendar
	blind    bool // the part's content is not read, and may refer to other parts
	marks
}

// A place is the place of an entity in the structure.
type place struct {
	depth   int
	parent  *entity // the multipart it is in; nil for the message
	leading bool    // no text stands before it
}

// in reports whether the entity stands directly in a multipart with parts in this order.
func (p place) in(o order) bool { return p.parent != nil && p.parent.order == o }

// locked reports whether the entity is in a multipart that must not change.
func (p place) locked() bool { return p.parent != nil && (p.parent.sealed || p.parent.locked()) }

const calendarType = "text/calendar"

// keptTypes are never detached. Signatures and signed content become invalid when a byte changes;
// mail programs read the other types themselves.
var keptTypes = map[string]bool{
	calendarType: true, "text/rfc822-headers": true, "application/autocrypt-setup": true,
	"application/ms-tnef": true, "application/vnd.ms-tnef": true, "application/pgp": true,
}

// keptPrefixes are the beginnings of other types that are never detached.
var keptPrefixes = []string{"message/", "application/pkcs7-", "application/x-pkcs7-", "application/pgp-"}

var signatureTypes = map[string]bool{
	"application/pgp-signature": true, "application/pkcs7-signature": true, "application/x-pkcs7-signature": true,
}

// signatureNames are the names, in lower case, that programs give to the signature of a whole text.
var signatureNames = map[string]bool{
	"smime.p7s": true, "signature.asc": true, "openpgp_signature": true, "openpgp_signature.asc": true,
	"openpgp digital signature.asc": true, "pgp.sig": true,
}

// keptNames are the ends of file names that make a part of any type one that is never detached:
// S/MIME (RFC 8551 section 3.2.1), and the file that Outlook sends to recipients whose program it
// takes for Outlook.
var keptNames = []string{".p7m", ".p7s", ".p7c", ".p7z", "winmail.dat"}

// ciphertexts are the names, without extension, of a whole message encrypted by PGP. Mail programs
// look for it by its name if its type has been lost.
var ciphertexts = map[string]bool{
	"encrypted": true, "message": true, "msg": true, "openpgp-encrypted-message": true,
	"openpgp encrypted message": true, "pgpexch.htm": true, "pgpexch.rtf": true,
}

// documents are extensions of files that are not texts, whatever type a web form gave them.
var documents = map[string]bool{
	".doc": true, ".docx": true, ".xls": true, ".xlsx": true, ".ppt": true, ".pptx": true, ".odt": true, ".ods": true, ".odp": true,
	".pdf": true, ".zip": true, ".gz": true, ".7z": true, ".rar": true, ".tar": true, ".exe": true, ".msg": true,
	".rtf": true, ".ps": true, ".eps": true, ".psd": true, ".ai": true, ".dwg": true, ".dxf": true, ".step": true, ".stp": true, ".stl": true,
	".bin": true, ".dat": true, ".iso": true, ".dmg": true, ".apk": true, ".jar": true, ".db": true, ".mdb": true, ".bz2": true, ".xz": true,
	".tgz": true, ".docm": true, ".xlsm": true, ".xlsb": true, ".pps": true, ".ppsx": true, ".pages": true, ".numbers": true, ".key": true,
	".epub": true, ".pub": true, ".vsd": true, ".vsdx": true, ".odg": true, ".hwp": true, ".p12": true, ".pfx": true, ".amr": true, ".3gp": true,
	".wmv": true, ".mkv": true, ".webm": true, ".mpg": true, ".mpeg": true, ".ogg": true, ".flac": true, ".aac": true, ".avif": true, ".heif": true,
	".jpg": true, ".jpeg": true, ".png": true, ".gif": true, ".tif": true, ".tiff": true, ".bmp": true, ".heic": true, ".webp": true,
	".mp3": true, ".mp4": true, ".m4a": true, ".mov": true, ".avi": true, ".wav": true,
}

// data has the extensions of text files that programs read and people attach. Such a part is the
// text of a mail only if its disposition is inline.
var data = map[string]bool{
	".csv": true, ".tsv": true, ".xml": true, ".json": true, ".yaml": true, ".yml": true, ".log": true, ".sql": true,
	".ini": true, ".conf": true, ".cfg": true, ".edi": true, ".vcf": true, ".tex": true, ".css": true, ".js": true,
	".py": true, ".c": true, ".h": true, ".java": true, ".sh": true, ".bat": true, ".php": true, ".kml": true, ".gpx": true,
}

// closedMultiparts are not walked: signed and encrypted ones must not change, and the parts of the
// others belong together.
var closedMultiparts = map[string]bool{"signed": true, "encrypted": true, "report": true, "appledouble": true, "digest": true}

// seen is what the parts so far have shown of the mail, besides its tree. It decides what to do with
// the next part.
type seen struct {
	refs     references
	calendar bool     // the mail has a text/calendar
	charsets []string // that the mail names; see hints.go
	blind    bool     // a part was not read, and its texts may refer to others
}

func (s *seen) note(v verdict) {
	s.calendar, s.blind = s.calendar || v.calendar, s.blind || v.blind
}

// decide is the table of what is detached, from a part's header and what came before it. The size
// of a part is known only once it is decoded, so it does not count here. Later parts may still
// overrule a verdict to detach: see walk.settle.
func (s *seen) decide(h *header, p place) verdict {
	ct := h.contentType()
	if h.bad || h.doubtful(p.parent != nil) || p.locked() {
		return verdict{refers: !h.bad && ct.refers(), blind: h.bad || ct.main == "multipart"}
	}
	_, uniqueType := h.one("Content-Type")
	disposition, dispositionValue, unique := h.disposition()
	switch {
	case ct.main == "multipart":
		v := decideMultipart(ct)
		v.aside = disposition == "attachment" && p.parent != nil
		return v
	case !uniqueType, !unique:
		return verdict{refers: ct.refers()}
	}
	l := newLabel(h, ct, disposition, dispositionValue, s.charsets)
	v := verdict{marks: l.marks(), shown: l.shown(), aside: l.aside(h), refers: ct.refers(), encoding: h.transferEncoding()}
	v.calendar = l.mediaType == calendarType
	signed := p.parent.beside(func(e *entity) bool { return v.signs != "" && e.name == v.signs })
	signer := p.parent.beside(func(e *entity) bool { return v.name != "" && e.signs == v.name })
	switch {
	case signed != nil && signed.kind == kindGone:
		v.small = true // the file is detached, so its signature is, too
	case signed != nil && signed.kind != kindGone, signer != nil && signer.kind != kindGone:
		return v
	case l.kept(), v.invite && s.calendar:
		return v
	case l.isText(p):
		if l.unclear {
			return v
		}
		if l.name == "" || p.parent == nil || !p.parent.order.all() {
			v.action = actionText
		}
		return v
	case v.shown, p.in(alternativeOrder) && !l.attached:
		return v
	case s.refs.refersTo(h, l.name), referable(h) && (s.blind || p.in(relatedOrder) && !s.refs.hasHTML):
		return v // in a related, the HTML may follow
	}
	if !transfer.Known(v.encoding) {
		return v
	}
	v.action, v.refers, v.nameless = actionDetach, false, l.nameless()
	// The copy does not keep the header in memory.
	v.mimeType = strings.Clone(filename.Clip(l.mediaType))
	return v
}

// A label is what a part's header says about it.
type label struct {
	mediaType   string
	name        string // of a file; "" if it has none
	attached    bool   // the disposition is attachment
	inline      bool   // the disposition is inline
	unclear     bool   // the disposition is unknown: for some programs the part is a file
	smime       bool   // the type says that the part is an S/MIME message
	description string // in lower case
}

// newLabel reads a label. charsets are those of the texts that came before.
func newLabel(h *header, ct contentType, disposition, dispositionValue string, charsets []string) label {
	l := label{mediaType: ct.String(), name: fileName(dispositionValue, ct.value, charsets), attached: disposition == "attachment"}
	l.inline, l.smime = disposition == "inline", ct.params["smime-type"] != ""
	if (l.name != "" || l.attached) && !ct.usable() {
		l.mediaType = "application/octet-stream"
	}
	l.unclear = disposition != "" && disposition != "inline" && !l.attached
	description, _ := h.one("Content-Description")
	l.description = strings.ToLower(description)
	return l
}

// usable reports whether the header has a media type. Without one the part is a text by RFC 2045
// section 5.2, which is wrong for files.
func (c contentType) usable() bool {
	t, _, _ := strings.Cut(c.value, ";")
	main, sub, ok := strings.Cut(strings.TrimSpace(t), "/")
	return ok && main != "" && sub != ""
}

// refers reports whether a text of this type may refer to other parts of the mail.
func (c contentType) refers() bool {
	switch c.main + "/" + c.sub {
	case "text/plain", "text/rfc822-headers":
		return false
	case "image/svg+xml", "application/xhtml+xml", "application/xml":
		return true
	}
	return c.main == "text"
}

func (l label) extension() string { return strings.ToLower(path.Ext(l.name)) }

// base returns the name without its extension.
func (l label) base() string { return strings.TrimSuffix(l.name, path.Ext(l.name)) }

// kept reports whether the part is never detached.
func (l label) kept() bool {
	name := strings.ToLower(l.name)
	begins := func(prefix string) bool { return strings.HasPrefix(l.mediaType, prefix) }
	ends := func(suffix string) bool { return strings.HasSuffix(name, suffix) }
	return l.smime || keptTypes[l.mediaType] || slices.ContainsFunc(keptPrefixes, begins) || slices.ContainsFunc(keptNames, ends) || l.ciphertext()
}

// ciphertext reports whether the part is a whole message encrypted by PGP.
func (l label) ciphertext() bool {
	switch l.extension() {
	case ".asc", ".pgp", ".gpg":
		return ciphertexts[strings.ToLower(l.base())]
	}
	return strings.HasPrefix(l.description, "openpgp encrypted message")
}

// shown reports whether mail programs show the part as a text, and not as a file.
func (l label) shown() bool {
	return strings.HasPrefix(l.mediaType, "text/") && l.name == "" && !l.attached && !keptTypes[l.mediaType]
}

// aside reports whether mail programs show the part of an alternative beside the other parts. Some
// senders put the pictures of the HTML there.
func (l label) aside(h *header) bool {
	picture := referable(h) && !strings.HasPrefix(l.mediaType, "text/") && !strings.HasPrefix(l.mediaType, "message/")
	return l.attached || picture || l.mediaType == calendarType || l.invite()
}

func (l label) invite() bool { return l.mediaType == "application/ics" || l.extension() == ".ics" }

// isText reports whether mail programs may show the part as a text of the mail. A text with a file
// name counts only in the place of the mail's own text.
func (l label) isText(p place) bool {
	switch {
	case l.attached || l.mediaType != "text/plain" && l.mediaType != "text/html":
		return false
	case l.name == "":
		return true
	case documents[l.extension()]:
		return false
	case p.in(alternativeOrder):
		return true
	}
	return p.leading && (l.inline || p.parent == nil || !data[l.extension()])
}

// nameless reports whether the part has no name, or one that programs write for files without a
// name.
func (l label) nameless() bool { return l.name == "" || placeholders[strings.ToLower(l.base())] }

// marks returns what the part means for the parts beside it.
func (l label) marks() marks {
	m := marks{
		name: strings.Clone(displayName(l.name, l.mediaType)), invite: l.invite(),
		encrypted: l.mediaType == "application/pgp-encrypted" || strings.HasPrefix(l.description, "pgp/mime version"),
	}
	switch path.Ext(strings.ToLower(m.name)) {
	case ".sig", ".sign", ".asc", ".p7s":
		m.signs = strings.TrimSuffix(m.name, path.Ext(m.name))
	}
	// The signature of a text has one of signatureNames. The name of a file's signature contains
	// the file's extension: report.pdf.asc.
	m.signature = signatureTypes[l.mediaType] && path.Ext(m.signs) == "" || signatureNames[strings.ToLower(m.name)]
	return m
}

func decideMultipart(ct contentType) verdict {
	if closed := closedMultiparts[ct.sub]; closed || ct.boundary == "" {
		return verdict{opaque: true, blind: !closed}
	}
	// The copy does not keep the header in memory.
	return verdict{action: actionDescend, boundary: strings.Clone(ct.boundary), order: orders[ct.sub]}
}

// passes reports whether the header alone shows that nothing can be detached.
func (s *seen) passes(h *header) bool {
	if h.has(skeleton.Field) {
		return true // it was rewritten before
	}
	a := s.decide(h, place{leading: true}).action
	return a != actionDescend && a != actionDetach
}
