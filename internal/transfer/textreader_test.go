package transfer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// A text reader gives what DecodeText gives, without having the whole text in memory.
func TestTextReaderIsDecodeText(t *testing.T) {
	long := strings.Repeat("Grüße, cid:a=3D \t \r\n", 5000)
	quoted := string(EncodeQuoted([]byte(long), "\r\n"))
	base := string(EncodeBase64([]byte(long), "\r\n"))
	odd := []string{
		"", "a", "=", "=4", "=41", "a  ", "a=\r\n", "a = \r\nb", "a=ZZ", "\r\n", strings.Repeat("x", 3*textWindow),
		strings.Repeat("x", textWindow-1) + "=41", strings.Repeat("x", textWindow-2) + "  \r\ny",
		"QQ==", "QQ==QQ==", "QUFB\r\nQQ", "Q U F B", "!", strings.Repeat(" ", textWindow/2) + "QUFB",
		strings.Repeat("QUFB", textWindow/4) + "Q", strings.Repeat("QUFB", textWindow/4-1) + "QQ==" + "QUFB",
	}
	for _, encoding := range []string{"7bit", "8bit", "binary", "base64", "quoted-printable"} {
		for _, raw := range append(odd, long, quoted, base, strings.ReplaceAll(base, "\r\n", "")) {
			for name, src := range map[string]io.Reader{"whole": strings.NewReader(raw), "single bytes": iotest.OneByteReader(strings.NewReader(raw))} {
				want, _, wantErr := DecodeText(encoding, []byte(raw))
				got, err := io.ReadAll(NewTextReader(encoding, src))
				if !errors.Is(err, wantErr) || wantErr == nil && !bytes.Equal(got, want) {
					t.Errorf("%s, %s, %d bytes %.20q: %d bytes, %v, want %d, %v", encoding, name, len(raw), raw, len(got), err, len(want), wantErr)
				}
			}
		}
	}
}

func TestTextReaderPassesErrorsOn(t *testing.T) {
	broken := fmt.Errorf("broken")
	for _, encoding := range []string{"7bit", "base64", "quoted-printable"} {
		raw := base64.StdEncoding.EncodeToString(make([]byte, 2*textWindow))
		src := io.MultiReader(strings.NewReader(raw), iotest.ErrReader(broken))
		if _, err := io.Copy(io.Discard, NewTextReader(encoding, src)); err != broken {
			t.Errorf("%s: got %v, want %v", encoding, err, broken)
		}
	}
}

func TestTextReaderHasBoundedMemory(t *testing.T) {
	for _, encoding := range []string{"base64", "quoted-printable"} {
		r := NewTextReader(encoding, io.LimitReader(repeated("QUFB"), 64<<20)).(*textReader)
		n, err := io.Copy(io.Discard, r)
		must.Succeed(t, err)
		if n < 40<<20 || cap(r.window)+cap(r.space) > 4*textWindow {
			t.Errorf("%s: %d bytes in memory for %d", encoding, cap(r.window)+cap(r.space), n)
		}
	}
}

type repeated string

func (s repeated) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], s)
	}
	return n, nil
}
