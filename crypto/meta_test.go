package crypto

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

var testMeta = Meta{
	Name: "Überblick <2026>.pdf", Type: "application/pdf", Size: 1 << 33,
	SHA256:  [32]byte{1, 2, 3},
	Created: time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC),
	Expires: time.Date(2027, 2, 21, 0, 0, 0, 0, time.UTC),
}

const (
	dayEpoch   Epoch = "2027-02-20.k7d2qawm" // ends as testMeta does
	monthEpoch Epoch = "2026-11.aaaa2345"
)

var dayKID = KID{dayEpoch, false}

func TestSealedMetadataOpens(t *testing.T) {
	k := Key{testSecret(1)}
	forever := testMeta
	forever.Expires = time.Time{}
	for kid, want := range map[KID]Meta{
		{dayEpoch, false}: testMeta, {dayEpoch, true}: testMeta,
		{monthEpoch, false}: forever, {monthEpoch, true}: {Created: testMeta.Created},
	} {
		jwe, err := k.SealMeta(want, kid)
		must.Succeed(t, err)
		got, err := k.OpenMeta(jwe)
		if err != nil || got != want {
			t.Errorf("kid %s: got %+v, %v, want %+v", kid, got, err, want)
		}
		if id, err := MetaKeyID(jwe); err != nil || id != kid {
			t.Errorf("MetaKeyID: got %q, %v, want %q", id, err, kid)
		}
		if bytes.Contains(jwe, []byte("pdf")) {
			t.Error("the name is readable")
		}
	}
}

// A page that showed another end than the one at which the key goes would mislead.
func TestMetadataEndsWithItsEpoch(t *testing.T) {
	k, late := Key{testSecret(1)}, testMeta
	late.Expires = late.Expires.Add(time.Second)
	for _, err := range []error{
		func() error { _, err := k.SealMeta(testMeta, KID{Epoch: monthEpoch}); return err }(),
		func() error { _, err := k.SealMeta(late, dayKID); return err }(),
		func() error { _, err := k.SealMeta(Meta{Created: late.Created}, dayKID); return err }(),
	} {
		if err == nil {
			t.Error("sealed with an end that is not the epoch's")
		}
	}
}

func TestMetadataIsWrittenAsSpecified(t *testing.T) {
	local := testMeta
	local.Created = local.Created.In(time.FixedZone("", 3600)).Add(999 * time.Millisecond)
	local.Name = "a.pdf"
	got, err := json.Marshal(local)
	must.Succeed(t, err)
	want := `{"name":"a.pdf","type":"application/pdf","size":8589934592,"sha256":"010203` + strings.Repeat("0", 58) +
		`","created":"2026-11-22T20:00:00Z","expires":"2027-02-21T00:00:00Z"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	local.Expires = time.Time{}
	if got, err = json.Marshal(local); err != nil || !bytes.HasSuffix(got, []byte(`,"expires":null}`)) {
		t.Errorf("never expiring: got %s, %v", got, err)
	}
	for name, in := range map[string]string{
		"not an object": `[]`, "no sha256": `{"created":"2026-11-22T20:00:00Z"}`,
		"negative size": strings.Replace(want, "8589934592", "-1", 1),
		"short sha256":  strings.Replace(want, "010203", "0102", 1),
		"no created":    strings.Replace(want, "created", "creatad", 1),
		"fraction":      strings.Replace(want, "8589934592", "1.5", 1),
	} {
		if err := json.Unmarshal([]byte(in), new(Meta)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	later := strings.Replace(want, "{", `{"later":1,`, 1)
	if err := json.Unmarshal([]byte(later), new(Meta)); err != nil {
		t.Errorf("a member of a later version: %v", err)
	}
}

// A meta.jwe does not open if any one character of it is changed, added or removed.
func TestAlteredMetadataDoesNotOpen(t *testing.T) {
	faults.Covers(t, 77)
	k := Key{testSecret(1)}
	jwe, err := k.SealMeta(testMeta, dayKID)
	must.Succeed(t, err)
	refused := func(how string, altered []byte) {
		t.Helper()
		if _, err := k.OpenMeta(altered); err == nil {
			t.Errorf("%s: opens", how)
		}
	}
	for i := range jwe {
		for _, c := range []byte{'A', 'B', 'w', '_', '.', '\n', '='} {
			if jwe[i] == c {
				continue
			}
			altered := bytes.Clone(jwe)
			altered[i] = c
			refused(fmt.Sprintf("character %d is %q", i, c), altered)
		}
		refused(fmt.Sprintf("cut at %d", i), jwe[:i])
	}
	refused("appended", append(bytes.Clone(jwe), 'A'))
	refused("newline", append(bytes.Clone(jwe), '\n'))
	refused("empty", nil)
}

func TestWrongKeyDoesNotOpenMetadata(t *testing.T) {
	faults.Covers(t, 78)
	jwe, err := Key{testSecret(1)}.SealMeta(testMeta, dayKID)
	must.Succeed(t, err)
	for _, k := range []Key{{testSecret(2)}, {ZeroShare().secret}, {}} {
		if _, err := k.OpenMeta(jwe); !errors.Is(err, ErrWrongKey) {
			t.Errorf("got %v, want ErrWrongKey", err)
		}
	}
}

// Anyone can write the header, and kid becomes a file name.
func TestOnlyOurHeaderIsAccepted(t *testing.T) {
	k := Key{testSecret(1)}
	jwe, err := k.SealMeta(testMeta, dayKID)
	must.Succeed(t, err)
	_, body, _ := strings.Cut(string(jwe), ".")
	with := func(header string) []byte {
		return []byte(base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + body)
	}
	good := with(`{"kid":"2027-02-20.k7d2qawm","enc":"A256GCM","alg":"dir"}`)
	if kid, err := MetaKeyID(good); err != nil || kid != dayKID {
		t.Errorf("members in another order: got %q, %v", kid, err)
	}
	for _, kid := range badEpochs {
		for _, kid := range []string{kid, kid + ".link"} {
			if got, err := MetaKeyID(with(fmt.Sprintf(`{"alg":"dir","enc":"A256GCM","kid":"%s"}`, kid))); err == nil {
				t.Errorf("kid %q: got %q", kid, got)
			}
			if _, err := k.SealMeta(testMeta, KID{Epoch: Epoch(kid)}); err == nil {
				t.Errorf("kid %q: sealed", kid)
			}
		}
	}
	for _, header := range []string{
		``, `{}`, `null`, `[]`, `{"alg":"dir","enc":"A256GCM"}`,
		`{"alg":"none","enc":"A256GCM","kid":"2026-11.aaaa2345"}`,
		`{"alg":"A256KW","enc":"A256GCM","kid":"2026-11.aaaa2345"}`,
		`{"alg":"dir","enc":"A256CBC-HS512","kid":"2026-11.aaaa2345"}`,
		`{"alg":"dir","enc":"A256GCM","kid":"2026-11.aaaa2345","zip":"DEF"}`,
		`{"alg":"dir","enc":"A256GCM","kid":"2026-11.aaaa2345","crit":["x"],"x":1}`,
		`{"alg":"dir","enc":"A256GCM","kid":"2026-11.aaaa2345","jku":"https://example.org"}`,
		`{"alg":"dir","enc":"A256GCM","kid":7}`,
		`{"alg":"dir","enc":"A256GCM","kid":"2026-11.aaaa2345"}{}`,
	} {
		if _, err := MetaKeyID(with(header)); err == nil {
			t.Errorf("header %s: accepted", header)
		}
	}
	if _, err := MetaKeyID(append(good, make([]byte, MaxMeta)...)); err == nil {
		t.Error("over the limit: accepted")
	}
	// "dir" has no encrypted key (RFC 7516 section 5.2, step 10).
	if _, err := k.OpenMeta(bytes.Replace(jwe, []byte(".."), []byte(".AAAA."), 1)); err == nil {
		t.Error("with an encrypted key: opens")
	}
}

func TestLongMetadataIsRefused(t *testing.T) {
	m := Meta{Name: strings.Repeat("n", MaxMeta), Created: testMeta.Created}
	if _, err := (Key{testSecret(1)}).SealMeta(m, KID{Epoch: monthEpoch}); err == nil || len(err.Error()) > 100 {
		t.Errorf("sealed, or the error quotes it: %.200v", err)
	}
}

func FuzzOpenMeta(f *testing.F) {
	k := Key{testSecret(1)}
	jwe, err := k.SealMeta(testMeta, dayKID)
	must.Succeed(f, err)
	f.Add(jwe)
	f.Add([]byte("e30...."))
	f.Fuzz(func(t *testing.T, in []byte) {
		if m, err := k.OpenMeta(in); err == nil && m != testMeta {
			t.Error("opened what this key did not seal")
		}
	})
}
