package crypto

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/mr-tron/base58"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func testSecret(first byte) secret {
	var b [SecretSize]byte
	for i := range b {
		b[i] = first + byte(i)
	}
	return newSecret(&b)
}

// holder has secrets in unexported fields, where fmt does not call their methods.
type holder struct {
	Exported Key
	hidden   Key
	pointer  *Key
	inner    struct{ share Share }
	list     []Fragment
	named    map[string]Share
}

func TestSecretsDoNotPrint(t *testing.T) {
	faults.Covers(t, 82)
	k, b, a := Key{testSecret(0x41)}, Share{testSecret(0x41)}, Fragment{testSecret(0x41)}
	h := holder{k, k, &k, struct{ share Share }{b}, []Fragment{a}, map[string]Share{"x": b}}

	raw := k.bytes()
	var leaks []string
	for _, form := range []string{
		string(raw), hex.EncodeToString(raw), base58.Encode(raw), "65 66 67", "65, 66, 67", "65,66,67",
		"41 42 43", "0x41, 0x42", "QUJDREVG", "101 102 103", "1000001 1000010", "'A' 'B'", "U+0041 U+0042",
	} {
		leaks = append(leaks, form, strings.ToUpper(form))
	}
	check := func(how, out string) {
		t.Helper()
		for _, leak := range leaks {
			if strings.Contains(out, leak) {
				t.Errorf("%s prints a secret: %q", how, out)
			}
		}
	}
	for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %#x %d %b %o %c %U %t %e %p %T %z %08d %[1]*[1]d") {
		for _, v := range []any{k, &k, b, &b, a, &a, k.secret, Proof(k), ServiceSecret(k)} {
			out := fmt.Sprintf(verb, v)
			check(verb, out)
			if verb != "%p" && verb != "%T" && len(verb) < 5 && out != redacted {
				t.Errorf("%s of %T: got %q, want %q", verb, v, out, redacted)
			}
		}
		for _, v := range []any{h, &h, []any{h}} {
			check(verb+" of a holder", fmt.Sprintf(verb, v))
		}
	}
	check("Sprint", fmt.Sprint(k, h))
	check("Errorf", fmt.Errorf("key %v: %w", k, io.EOF).Error())

	var text, js bytes.Buffer
	for _, log := range []*slog.Logger{slog.New(slog.NewTextHandler(&text, nil)), slog.New(slog.NewJSONHandler(&js, nil))} {
		log.Info("x", "k", k, "a", a, "b", b, "p", &k, "h", h, "ph", &h, "list", h.list)
	}
	check("slog text", text.String())
	check("slog JSON", js.String())
	out, err := json.Marshal(map[string]any{"k": k, "h": h, "list": h.list})
	must.Succeed(t, err)
	check("JSON", string(out))
	if out, err := xml.Marshal(a); err != nil || !strings.Contains(string(out), redacted) {
		t.Errorf("XML: got %q, %v", out, err)
	}
	if got := k.String() + k.GoString(); got != redacted+redacted {
		t.Errorf("String and GoString: got %q", got)
	}
}

func TestFragmentAndShareJoinToTheKey(t *testing.T) {
	k, b := Key{testSecret(7)}, Share{testSecret(99)}
	a := k.Split(b)
	if got := Join(a, b); got != k {
		t.Error("joining fragment and share does not give the key")
	}
	if a.secret == k.secret || bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the fragment is the key or the share")
	}
	if got := k.Split(ZeroShare()); got.secret != k.secret {
		t.Error("with the zero share the fragment is not the key")
	}
	if got := (Join(Fragment{}, b)); got != (Key{}) {
		t.Error("an absent fragment joined to a key")
	}
	if (Fragment{}).Bytes() != nil || (Share{}).Encode() != "" {
		t.Error("an absent secret has bytes")
	}
}

func TestEncodedSecretsParse(t *testing.T) {
	ones := newSecret((*[SecretSize]byte)(bytes.Repeat([]byte{0xff}, SecretSize)))
	for _, s := range []secret{testSecret(0), testSecret(200), ones, ZeroShare().secret} {
		text := s.encode()
		f, err := ParseFragment(text)
		if err != nil || f.secret != s {
			t.Errorf("fragment of %d characters: parsed to another: %v", len(text), err)
		}
		if b, err := ParseShare(text); err != nil || b.secret != s {
			t.Errorf("share of %d characters: parsed to another: %v", len(text), err)
		}
		if back, err := FragmentFromBytes(f.Bytes()); err != nil || back != f {
			t.Errorf("fragment from bytes: %v", err)
		}
	}
	if got, want := ZeroShare().Encode(), "z"+strings.Repeat("1", 32); got != want {
		t.Errorf("zero share: got %q, want %q", got, want)
	}
	if _, err := FragmentFromBytes(make([]byte, 31)); !errors.Is(err, ErrFragmentInvalid) {
		t.Errorf("31 bytes: got %v, want ErrFragmentInvalid", err)
	}
}

func TestCutFragmentsAreIncompleteAndOthersInvalid(t *testing.T) {
	faults.Covers(t, 78)
	full := Fragment{testSecret(200)}.Encode()
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"empty", "", ErrFragmentIncomplete},
		{"prefix alone", "z", ErrFragmentIncomplete},
		{"half", full[:len(full)/2], ErrFragmentIncomplete},
		{"two digits short", full[:len(full)-2], ErrFragmentIncomplete},
		{"31 zero bytes", "z" + strings.Repeat("1", 31), ErrFragmentIncomplete},
		{"33 zero bytes", "z" + strings.Repeat("1", 33), ErrFragmentInvalid},
		{"a digit more", full + "2", ErrFragmentInvalid},
		{"very long", "z" + strings.Repeat("2", 1<<20), ErrFragmentInvalid},
		{"over 32 bytes in 44 digits", "z" + strings.Repeat("z", 44), ErrFragmentInvalid},
		{"another base", "b" + full[1:], ErrFragmentInvalid},
		{"upper-cased", strings.ToUpper(full), ErrFragmentInvalid},
		{"a digit that base58 lacks", "z0" + full[2:], ErrFragmentInvalid},
		{"white space", full[:9] + " " + full[10:], ErrFragmentInvalid},
	} {
		if _, err := ParseFragment(tt.in); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		} else if len(tt.in) > 1 && strings.Contains(err.Error(), tt.in) {
			t.Errorf("%s: the error quotes its input", tt.name)
		}
	}
}
