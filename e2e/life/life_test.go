package life

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

const day = 24 * time.Hour

// file is a stored file.
type file struct {
	stage.Link
	sum string // SHA-256 of what the link leads to; "" for a file list and an original
}

// life is an installation with two gateways that share a data directory, and what is stored there.
type life struct {
	t      *testing.T
	clock  *stage.Clock
	node   *servers.KuboNode // nil: the embedded store
	first  *stage.Detach     // proxy and gateway
	second *stage.Detach     // a gateway alone
	files  map[string]file
	loot   string        // what an attacker has copied so far
	ahead  time.Duration // what the clock was ahead of the machine's at the beginning
}

// Files are stored, downloaded, revoked, given back, extended, destroyed and swept, each at its
// time. At every step both gateways serve what lives and nothing else, and so does the attacker's.
func TestFilesLiveAndEnd(t *testing.T) {
	faults.Covers(t, 110)
	for _, store := range []string{"embedded", "kubo"} {
		t.Run(store, func(t *testing.T) {
			l := begin(t, store == "kubo")
			l.store("expired", "neighbor", "undone", "graceful", "now", "extended", "extended and destroyed", "of a mail")
			list, original := l.storeMail("mail one", "mail two")
			l.files["list"], l.files["original"] = list, original
			l.wantServed(l.names()...)
			l.copyAll()

			l.clock.Pass(t, day)
			l.wantServed(l.names()...)
			l.detach(0, "revoke", l.files["undone"].URL, l.files["graceful"].URL)
			l.wantServed(l.except("undone", "graceful")...)
			said := l.detach(0, "extend", "--for", "90d", l.files["extended"].URL, l.files["extended and destroyed"].CID)
			l.wantLastDay("extended", l.clock.Now().Add(90*day), said)
			l.copyAll() // the records of the extensions, too
			l.detach(0, "revoke", "--now", l.files["now"].CID, l.files["extended and destroyed"].URL)
			l.detach(0, "revoke", "--message", l.files["mail two"].URL)
			living := l.except("undone", "graceful", "now", "extended and destroyed", "mail one", "mail two", "list", "original")
			l.wantServed(living...)
			l.wantStolen(l.except("now", "extended and destroyed")...) // what is only denied has its keys

			l.clock.Pass(t, 2*day)
			l.detach(0, "revoke", "--undo", l.files["undone"].URL)
			living = append(living, "undone")
			l.wantServed(living...)

			l.clock.Pass(t, 6*day) // the grace period is over
			l.awaitGone("graceful", "mail one", "mail two", "list", "original")
			l.detach(1, "revoke", "--undo", l.files["graceful"].URL)
			l.wantServed(living...)
			l.wantStolen(living...)

			l.clock.Pass(t, 11*day)
			l.store("later")
			l.copyAll()
			l.wantServed(append(living, "later")...)

			l.clock.Pass(t, 11*day) // the first epoch has ended
			l.sweepTogether()       // and detach serve sweeps, too
			l.awaitGone("expired", "neighbor", "undone", "of a mail")
			l.wantServed("extended", "later")
			l.wantStolen("extended", "later")

			l.clock.Pass(t, 100*day) // the last two have
			l.awaitGone("extended", "later")
			l.wantServed()
			l.wantStolen()
		})
	}
}

// begin starts the installation, in which files are kept for 30 days and revoked ones for 7.
func begin(t *testing.T, kubo bool) *life {
	t.Helper()
	l := &life{t: t, clock: stage.StartClock(t), files: make(map[string]file), loot: t.TempDir()}
	l.ahead = time.Until(l.clock.Now())
	setup := stage.Setup{Policy: `min_size = "1"`, Keys: "retention = \"30d\"\ngrace = \"7d\""}
	store := `kind = "embedded"`
	if kubo {
		l.node = servers.Kubo(t)
		setup.Kubo = l.node.API()
		store = fmt.Sprintf("kind = \"kubo\"\n[store.kubo]\napi = %q", setup.Kubo)
	}
	l.first = stage.Serve(t, setup)
	l.second = l.gateway(l.first.DataDir, store, "")
	return l
}

// gateway starts a gateway alone, on a data directory.
func (l *life) gateway(dataDir, store, env string) *stage.Detach {
	l.t.Helper()
	d := stage.ConfigureAs(l.t, l.t.TempDir(), fmt.Sprintf("data_dir = %q\n[store]\n%s\n[gateway]\nlisten = %q\nurl = \"https://files.example\"\n[admin]\nlisten = %q\n",
		dataDir, store, servers.FreeAddr(l.t), servers.FreeAddr(l.t)))
	if env != "" {
		d.Env = append(d.Env, env)
	}
	d.Launch(l.t)
	d.Await(l.t)
	return d
}

// store stores one file for each name, each in a mail of its own.
func (l *life) store(names ...string) {
	l.t.Helper()
	for i, name := range names {
		a := stage.FileOf(name+".bin", stage.Noise(uint64(len(l.files)), 3000+1000*i))
		l.files[name] = file{l.first.Put(l.t, a)[0], a.SHA256()}
	}
}

// storeMail stores files in one mail, and returns its file list and its original.
func (l *life) storeMail(names ...string) (list, original file) {
	l.t.Helper()
	mail := stage.Head("two files") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhere\r\n"
	var sums []string
	for i, name := range names {
		a := stage.FileOf(name+".bin", stage.Noise(uint64(100+i), 5000))
		mail, sums = mail+"--b\r\n"+a.Part(), append(sums, a.SHA256())
	}
	parsed := stage.StartDecoder(l.t).Parse(l.t, l.first.Pipe(l.t, "filter", strings.NewReader(mail+"--b--\r\n")))
	for i, link := range parsed.Links() {
		l.files[names[i]] = file{link, sums[i]}
	}
	back, ok := parsed.Original()
	if !ok {
		l.t.Fatal("the mail has no link to its original")
	}
	return file{Link: parsed.CheckAll(l.t, sums)}, file{Link: back}
}

func (l *life) names() []string { return slices.Sorted(maps.Keys(l.files)) }

// except returns all names but these.
func (l *life) except(names ...string) []string {
	return slices.DeleteFunc(l.names(), func(n string) bool { return slices.Contains(names, n) })
}

// detach runs a command and wants this exit code.
func (l *life) detach(code int, args ...string) string {
	l.t.Helper()
	out, got := l.first.Run(l.t, args...)
	if got != code {
		l.t.Errorf("detach %s: exit code %d, want %d:\n%s", args[0], got, code, out)
	}
	return out
}

// wantServed checks that both gateways serve these files and no others.
func (l *life) wantServed(names ...string) {
	l.t.Helper()
	for _, d := range []*stage.Detach{l.first, l.second} {
		for _, name := range l.names() {
			status, got := l.files[name].open(l.t, d)
			want := http.StatusGone
			if slices.Contains(names, name) {
				want = http.StatusOK
			}
			if status != want || want == http.StatusOK && got != l.files[name].sum && l.files[name].sum != "" {
				l.t.Errorf("day %d: %q gets %d from %s, want %d", l.day(), name, status, d.URL, want)
			}
		}
	}
}

// day returns how many days have passed.
func (l *life) day() int { return int((time.Until(l.clock.Now()) - l.ahead + time.Hour) / day) }

// open downloads the file from a gateway, and returns the status and the SHA-256.
func (f file) open(t *testing.T, d *stage.Detach) (status int, sum string) {
	t.Helper()
	at := f.Link
	at.Page = d.URL + f.Page[strings.LastIndex(f.Page, "/"+f.CID):]
	var content bytes.Buffer
	err := at.Download(t.Context(), &content)
	if refused, ok := err.(stage.StatusError); ok {
		return int(refused), ""
	}
	stage.Must(t, err)
	return http.StatusOK, stage.SHA256(content.Bytes())
}

// awaitGone waits until detach serve has deleted objects from the store.
func (l *life) awaitGone(names ...string) {
	l.t.Helper()
	servers.Eventually(l.t, servers.Patience, "the sweep", func() bool {
		left := strings.Join(l.objects(), " ")
		return !slices.ContainsFunc(names, func(n string) bool { return strings.Contains(left, l.files[n].CID) })
	})
}

// objects returns the CIDs in the store.
func (l *life) objects() (cids []string) {
	if l.node == nil {
		for _, name := range l.first.Objects(l.t) {
			cids = append(cids, strings.TrimSuffix(name, ".car"))
		}
		return cids
	}
	for _, pin := range l.node.Pins() {
		if cid, name, _ := strings.Cut(pin, " "); strings.HasPrefix(name, "detach/v1 ") {
			cids = append(cids, cid)
		}
	}
	return cids
}

// copyAll adds to the loot what is in the data directory and the store, except for the key files.
func (l *life) copyAll() {
	l.t.Helper()
	stage.Must(l.t, copyNew(l.loot, l.first.DataDir, func(path string) bool { return !strings.HasSuffix(path, ".key") }))
	if l.node == nil {
		return
	}
	objects := filepath.Join(l.loot, "objects")
	stage.Must(l.t, os.MkdirAll(objects, 0o700))
	for _, cid := range l.objects() {
		stage.Must(l.t, os.WriteFile(filepath.Join(objects, cid+".car"), []byte(l.node.Run("dag", "export", "--progress=false", cid)), 0o600))
	}
}

// wantLastDay checks that detach extend and the page say the same last day.
func (l *life) wantLastDay(name string, day time.Time, said string) {
	l.t.Helper()
	want := texts.English().Day(day)
	resp, err := http.Get(l.first.URL + "/" + l.files[name].CID)
	stage.Must(l.t, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	stage.Must(l.t, err)
	for where, text := range map[string]string{"detach extend": said, "the page": string(page)} {
		if !strings.Contains(text, want) {
			l.t.Errorf("%s does not say %s:\n%s", where, want, text)
		}
	}
}

// sweepTogether runs several sweeps side by side.
func (l *life) sweepTogether() {
	var sweeping sync.WaitGroup
	for range 3 {
		sweeping.Go(func() {
			if out, code := l.first.Run(l.t, "sweep"); code != 0 {
				l.t.Errorf("detach sweep: exit code %d:\n%s", code, out)
			}
		})
	}
	sweeping.Wait()
}
