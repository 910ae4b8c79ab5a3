package fetch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/fetch/fetchtest"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
)

// impatient is a Client that does not make the test wait.
var impatient = Client{pause: time.Millisecond}

func TestFileOfAnySizeIsFetched(t *testing.T) {
	site := fetchtest.New(t)
	for _, size := range []int{0, 1, 1 << 20, 1<<20 + 1} {
		content := fetchtest.Random(size)
		var got bytes.Buffer
		meta, err := impatient.Fetch(t.Context(), site.Store(t, content), &got)
		if err != nil || !bytes.Equal(got.Bytes(), content) || meta.Name != "a.bin" || meta.Size != int64(size) {
			t.Errorf("%d bytes: got %d bytes, %v", size, got.Len(), err)
		}
	}
}

// Fetch writes only bytes of the file, for every answer of a gateway. A file that is cut is an error.
func TestFetchTrustsNoGateway(t *testing.T) {
	content := fetchtest.Random(3<<20 + 77)
	at := func(suffix string, change func([]byte) []byte) func(string, []byte) []byte {
		return func(path string, answer []byte) []byte {
			if strings.HasSuffix(path, suffix) {
				return change(bytes.Clone(answer))
			}
			return answer
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	always := func(answer string) func([]byte) []byte { return func([]byte) []byte { return []byte(answer) } }
	const page = "<!doctype html><p>Please log in"
	for name, spoil := range map[string]func(string, []byte) []byte{
		"flipped in the header":    at("/data", flip(20)),
		"flipped in the directory": at("/data", flip(150)),
		"flipped in the file":      at("/data", flip(2<<20)),
		"flipped late in the file": at("/data", flip(3<<20)),
		"cut in the file":          at("/data", func(b []byte) []byte { return b[:len(b)-1<<20] }),
		"nothing":                  at("/data", always("")),
		"a page instead":           at("/data", always(page)),
		"a page for everything":    at("", always(page)),
		"another share":            at("/share", always(`{"share":"`+crypto.ZeroShare().Encode()+`","expires":null}`)),
	} {
		t.Run(name, func(t *testing.T) {
			site := fetchtest.New(t)
			site.Spoil = spoil
			l := site.Store(t, content)
			var got bytes.Buffer
			_, err := impatient.Fetch(t.Context(), l, &got)
			if err == nil && !bytes.Equal(got.Bytes(), content) {
				t.Error("no error")
			}
			if !bytes.HasPrefix(content, got.Bytes()) {
				t.Error("wrote bytes that are not the file's")
			}
			if err != nil && strings.Contains(err.Error(), l.Fragment.Encode()) {
				t.Errorf("the key is in the error: %v", err)
			}
		})
	}
}

// The metadata is checked against the CID like every other block: before the key is joined, before
// the file is asked for, and before a byte is written.
func TestMetadataOfAnotherCIDIsRefused(t *testing.T) {
	site, content := fetchtest.New(t), []byte("content")
	l, other := site.Store(t, content), site.Store(t, content)
	metaOf := func(l link.Link) []byte {
		return site.Answer(fmt.Sprintf("/ipfs/%s/meta.jwe?format=car", l.CID))
	}
	ours, theirs := sections(t, metaOf(l)), sections(t, metaOf(other))
	root, meta, otherMeta := ours[1], ours[2], theirs[2]
	spoilt := map[string][]byte{
		"another object's answer":               metaOf(other),
		"another object's block under our root": slices.Concat(ours[0], root, otherMeta),
		"another object's bytes under our CID":  slices.Concat(ours[0], root, meta[:headLen], otherMeta[headLen:]),
		"no proof of the path":                  slices.Concat(ours[0], meta),
		"the plain file":                        site.Answer("/" + l.CID.String() + "/meta.jwe"),
	}
	for i := 0; i < len(root)+len(meta); i += 7 {
		b := slices.Concat(ours...)
		b[len(ours[0])+i] ^= 1
		spoilt[fmt.Sprintf("flipped at %d", i)] = b
	}
	for name, answer := range spoilt {
		site.Spoil = func(path string, right []byte) []byte {
			switch {
			case strings.HasSuffix(path, "/meta.jwe"):
				return answer
			case !strings.HasSuffix(path, "/origin"):
				t.Errorf("%s: asked for %s", name, path)
			}
			return right
		}
		var got bytes.Buffer
		if _, err := impatient.Fetch(t.Context(), l, &got); !errors.Is(err, ipfs.ErrCorrupt) || got.Len() > 0 {
			t.Errorf("%s: %d bytes written, error %v, want ErrCorrupt", name, got.Len(), err)
		}
	}
}

// A link with a wrong fragment is refused before its gateway is asked for the share, and an origin
// that was changed is not believed.
func TestWrongLinkIsNotSent(t *testing.T) {
	site := fetchtest.New(t)
	l, other := site.Store(t, []byte("content")), site.Store(t, []byte("other"))
	var asked []string
	site.Spoil = func(path string, answer []byte) []byte {
		asked = append(asked, path[strings.LastIndexByte(path, '/'):])
		return answer
	}
	wrong := l
	wrong.Fragment = other.Fragment
	var got bytes.Buffer
	if _, err := impatient.Fetch(t.Context(), wrong, &got); !errors.Is(err, errWrongLink) || got.Len() > 0 {
		t.Errorf("%d bytes written, error %v, want %v", got.Len(), err, errWrongLink)
	}
	if slices.Contains(asked, "/share") {
		t.Errorf("asked for %v", asked)
	}
	origin := site.Answer(fmt.Sprintf("/ipfs/%s/origin?format=car", l.CID))
	for i := len(origin) - 96; i < len(origin); i += 13 {
		site.Spoil = func(path string, answer []byte) []byte {
			if strings.HasSuffix(path, "/origin") {
				answer = bytes.Clone(answer)
				answer[i] ^= 1
			}
			return answer
		}
		if _, err := impatient.Fetch(t.Context(), l, io.Discard); !errors.Is(err, ipfs.ErrCorrupt) {
			t.Errorf("flipped at %d: %v, want ErrCorrupt", i, err)
		}
	}
}

// The key of another share is refused, and it is not called the link's fault.
func TestShareOfAnotherObjectIsRefused(t *testing.T) {
	site := fetchtest.New(t)
	l := site.Store(t, []byte("content"))
	for _, share := range []string{crypto.ZeroShare().Encode(), l.Fragment.Encode()} {
		site.Spoil = func(path string, answer []byte) []byte {
			if strings.HasSuffix(path, "/share") {
				return []byte(`{"share":"` + share + `","expires":null}`)
			}
			return answer
		}
		var got bytes.Buffer
		if _, err := impatient.Fetch(t.Context(), l, &got); !errors.Is(err, errOtherShare) || got.Len() > 0 {
			t.Errorf("%d bytes written, error %v, want %v", got.Len(), err, errOtherShare)
		}
	}
}

// A file that was extended is opened until its new end, which the gateway tells with the share, and
// the keyring by the record of the extension.
func TestExtendedFileIsFetched(t *testing.T) {
	site := fetchtest.New(t)
	l := site.StoreEnded(t, fetchtest.File{Name: "a.bin", Type: "text/plain", Content: []byte("content")})
	store, err := embedded.OpenReadOnly(filepath.Join(site.Dir, "objects"))
	must.Succeed(t, err)
	keys, err := keyring.Read(filepath.Join(site.Dir, "keys"))
	must.Succeed(t, err)
	fromStore := Client{Store: store, Keys: keys}
	defer fromStore.Close()
	for name, c := range map[string]Client{"gateway": impatient, "store": fromStore} {
		if _, err := c.Fetch(t.Context(), l, io.Discard); !errors.Is(err, errGone) {
			t.Errorf("%s: %v before it is extended, want %v", name, err, errGone)
		}
	}
	end := site.Extend(t, l)
	for name, c := range map[string]Client{"gateway": impatient, "store": fromStore} {
		var got bytes.Buffer
		meta, err := c.Fetch(t.Context(), l, &got)
		if err != nil || got.String() != "content" || !meta.Expires.Equal(end) {
			t.Errorf("%s: got %q until %s, %v, want it until %s", name, got.String(), meta.Expires, err, end)
		}
	}
}

// headLen is what precedes a block's bytes: two bytes of length, 36 of CID.
const headLen = 2 + 36

// sections splits a CAR into its header and its blocks, each with its length.
func sections(t *testing.T, car []byte) (all [][]byte) {
	t.Helper()
	for len(car) > 0 {
		n, k := binary.Uvarint(car)
		if k <= 0 || k+int(n) > len(car) {
			t.Fatalf("not a CAR: %d bytes are left", len(car))
		}
		all, car = append(all, car[:k+int(n)]), car[k+int(n):]
	}
	if len(all) != 3 {
		t.Fatalf("%d sections, want header, root and metadata", len(all))
	}
	return all
}

// The error for a login page or another web server says so, and does not call the file damaged.
func TestAnswerOfAnotherProgramIsRecognized(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<!doctype html><p>Please log in")
	}))
	defer other.Close()
	l := fetchtest.New(t).Store(t, []byte("content"))
	l.Base = other.URL
	if _, err := impatient.Fetch(t.Context(), l, io.Discard); !errors.Is(err, errNotDetach) {
		t.Errorf("err = %v, want %v", err, errNotDetach)
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	l := fetchtest.New(t).Store(t, make([]byte, 3<<20))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := impatient.Fetch(ctx, l, writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want the context's", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// After a connection breaks, the client connects again and asks only for the rest.
func TestBrokenConnectionIsTakenUpAgain(t *testing.T) {
	site, content := fetchtest.New(t), fetchtest.Random(6<<20)
	broken := 0
	site.Spoil = func(path string, answer []byte) []byte {
		if strings.HasSuffix(path, "/data") && broken > 0 {
			broken--
			return answer[:min(2<<20, len(answer)-1)]
		}
		return answer
	}
	l := site.Store(t, content)
	for _, times := range []int{2, 100} {
		broken = times
		var got bytes.Buffer
		_, err := impatient.Fetch(t.Context(), l, &got)
		if !bytes.HasPrefix(content, got.Bytes()) || (err == nil) != (got.Len() == len(content)) || (err == nil) != (times == 2) {
			t.Errorf("broken %d times: %d bytes, error %v", times, got.Len(), err)
		}
	}
}
