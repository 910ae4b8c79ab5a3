package crypto

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// MaxMeta bounds meta.jwe, which the gateway reads whole for every request of a page. Names and
	// types have a few hundred bytes.
	MaxMeta = 64 << 10

	infoMeta = "detach/v1 meta"
)

var (
	// ErrWrongKey says that the key does not open this meta.jwe. An altered meta.jwe gives the same
	// error: it cannot be told from a meta.jwe under another key.
	ErrWrongKey = errors.New("wrong key")

	errMetaForm = errors.New("malformed meta.jwe")
)

// Meta is the content of meta.jwe. Times are in UTC and whole seconds.
type Meta struct {
	Name    string
	Type    string // media type
	Size    int64  // of the attachment in bytes; data has the same size
	SHA256  [32]byte
	Created time.Time
	Expires time.Time // zero: never
}

// LogValue keeps the name out of logs.
func (m Meta) LogValue() slog.Value { return slog.StringValue(redacted) }

// metaJSON is Meta on the wire.
type metaJSON struct {
	Name    string     `json:"name"`
	Type    string     `json:"type"`
	Size    int64      `json:"size"`
	SHA256  string     `json:"sha256"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires"`
}

// MarshalJSON writes the members of docs/format.md: sha256 in hex, times in RFC 3339, and null
// for an attachment that does not expire.
func (m Meta) MarshalJSON() ([]byte, error) {
	w := metaJSON{m.Name, m.Type, m.Size, hex.EncodeToString(m.SHA256[:]), m.Created.UTC().Truncate(time.Second), nil}
	if !m.Expires.IsZero() {
		expires := m.Expires.UTC().Truncate(time.Second)
		w.Expires = &expires
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON writes. It ignores unknown members: later versions may have
// them.
func (m *Meta) UnmarshalJSON(b []byte) error {
	var w metaJSON
	if err := json.Unmarshal(b, &w); err != nil {
		return errMetaForm
	}
	sum, err := hex.DecodeString(w.SHA256)
	if err != nil || len(sum) != sha256.Size || w.Size < 0 || w.Created.IsZero() {
		return errMetaForm
	}
	*m = Meta{Name: w.Name, Type: w.Type, Size: w.Size, SHA256: [32]byte(sum), Created: w.Created.UTC()}
	if w.Expires != nil {
		m.Expires = w.Expires.UTC()
	}
	return nil
}

// metaKey derives the key of meta.jwe, so that K itself is used with CTR alone.
func (k Key) metaKey() []byte { return k.derive(infoMeta) }

// SealMeta returns m as a compact JWE (RFC 7516) with alg "dir" and enc "A256GCM". kid is public.
// The metadata must end when the epoch does.
func (k Key) SealMeta(m Meta, kid KID) ([]byte, error) {
	if k.absent() {
		return nil, errors.New("seal metadata: absent key")
	}
	if _, err := ParseKID(kid.String()); err != nil {
		return nil, fmt.Errorf("seal metadata: %w", err)
	}
	if !m.Expires.Equal(kid.Epoch.End()) {
		return nil, errors.New("seal metadata: the end is not the epoch's")
	}
	plain, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("seal metadata: %w", err)
	}
	enc, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: k.metaKey(), KeyID: kid.String()}, nil)
	if err != nil {
		return nil, fmt.Errorf("seal metadata: %w", err)
	}
	obj, err := enc.Encrypt(plain)
	if err != nil {
		return nil, fmt.Errorf("seal metadata: %w", err)
	}
	compact, err := obj.CompactSerialize()
	if err != nil {
		return nil, fmt.Errorf("seal metadata: %w", err)
	}
	if len(compact) > MaxMeta {
		return nil, errors.New("seal metadata: name or type too long")
	}
	return []byte(compact), nil
}

// OpenMeta returns the metadata, which proves that the key is right, or ErrWrongKey.
func (k Key) OpenMeta(jwe []byte) (Meta, error) {
	if _, err := MetaKeyID(jwe); err != nil {
		return Meta{}, err
	}
	if k.absent() {
		return Meta{}, ErrWrongKey
	}
	obj, err := jose.ParseEncryptedCompact(string(jwe), []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return Meta{}, errMetaForm // go-jose's errors quote the header, which anyone can write
	}
	plain, err := obj.Decrypt(k.metaKey())
	if err != nil {
		return Meta{}, ErrWrongKey
	}
	var m Meta
	if err := json.Unmarshal(plain, &m); err != nil {
		return Meta{}, errMetaForm
	}
	return m, nil
}

// MetaKeyID returns the kid of a meta.jwe. The kid is not authenticated before OpenMeta: anyone can
// write it.
//
// The header must have the members alg, enc and kid, and no other: no compression (zip), no other
// key or certificate (jwk, x5u), no extension (crit).
func MetaKeyID(jwe []byte) (KID, error) {
	parts, err := splitJWE(jwe)
	if err != nil {
		return KID{}, err
	}
	if kid, ok := ourHeader(string(parts[0])); ok {
		return kid, nil
	}
	header, ok := stringMembers(parts[0])
	if !ok || len(header) != 3 || header["alg"] != string(jose.DIRECT) || header["enc"] != string(jose.A256GCM) {
		return KID{}, errMetaForm
	}
	kid, err := ParseKID(header["kid"])
	if err != nil {
		return KID{}, errMetaForm
	}
	return kid, nil
}

// ourHeader reads a header that is spelled as SealMeta spells it, which is cheaper than reading any
// JSON. It refuses others.
func ourHeader(text string) (KID, bool) {
	text, begins := strings.CutPrefix(text, `{"alg":"dir","enc":"A256GCM","kid":"`)
	text, ends := strings.CutSuffix(text, `"}`)
	if !begins || !ends {
		return KID{}, false
	}
	kid, err := ParseKID(text) // in which JSON would escape nothing
	return kid, err == nil
}

// stringMembers reads a JSON object whose members are strings. It refuses a name that stands twice,
// and tells upper from lower case, unlike json.Unmarshal: other decoders could read another kid.
func stringMembers(text []byte) (members map[string]string, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if begin, err := dec.Token(); err != nil || begin != json.Delim('{') {
		return nil, false
	}
	members = make(map[string]string)
	for dec.More() {
		name, nameErr := dec.Token()
		value, valueErr := dec.Token()
		key, isName := name.(string)
		text, isText := value.(string)
		if _, twice := members[key]; nameErr != nil || valueErr != nil || !isName || !isText || twice {
			return nil, false
		}
		members[key] = text
	}
	_, endErr := dec.Token()
	_, restErr := dec.Token()
	return members, endErr == nil && restErr == io.EOF
}

// splitJWE decodes the five parts of RFC 7516 section 3.1. It is strict: one JWE has one spelling.
func splitJWE(jwe []byte) (parts [5][]byte, err error) {
	if len(jwe) > MaxMeta || bytes.ContainsAny(jwe, "\r\n") {
		return parts, errMetaForm
	}
	encoded := strings.Split(string(jwe), ".")
	if len(encoded) != len(parts) {
		return parts, errMetaForm
	}
	for i, s := range encoded {
		if parts[i], err = base64.RawURLEncoding.Strict().DecodeString(s); err != nil {
			return parts, errMetaForm
		}
	}
	// The encrypted key is empty with "dir" (RFC 7516 section 5.2, step 10), the IV has 96 bits
	// and the tag 128 with GCM (RFC 7518 section 5.3).
	if len(parts[1]) != 0 || len(parts[2]) != 12 || len(parts[4]) != 16 {
		return parts, errMetaForm
	}
	return parts, nil
}
