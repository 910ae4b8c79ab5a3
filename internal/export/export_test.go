package export_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/export"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// machine is a data directory with its keyring.
type machine struct {
	t      *testing.T
	dir    string
	keys   *keyring.Keyring
	denied []byte // what Deny was given
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir()}
	m.reopen()
	return m
}

func (m *machine) reopen() {
	m.t.Helper()
	var err error
	m.keys, err = keyring.Open(filepath.Join(m.dir, "keys"))
	must.Succeed(m.t, err)
}

func (m *machine) epoch(p crypto.Period) crypto.Epoch {
	m.t.Helper()
	e, err := m.keys.Writer(p)
	must.Succeed(m.t, err)
	return e
}

func (m *machine) source() export.Source {
	return export.Source{Keys: m.keys, DataDir: m.dir}
}

func (m *machine) target() export.Target {
	return export.Target{Keys: m.keys, DataDir: m.dir, Deny: func(list []byte) (int, error) {
		m.denied = list
		return bytes.Count(list, []byte("\n")), nil
	}}
}

func (m *machine) export(r age.Recipient) []byte {
	m.t.Helper()
	var b bytes.Buffer
	_, err := export.Write(&b, m.source(), r)
	must.Succeed(m.t, err)
	return b.Bytes()
}

func (m *machine) imports(file []byte, id age.Identity) export.Counts {
	m.t.Helper()
	a, err := export.Open(bytes.NewReader(file), int64(len(file)), id)
	must.Succeed(m.t, err)
	counts, err := a.Import(m.target())
	must.Succeed(m.t, err)
	return counts
}

// opens returns the share of an object, or "" if its key is destroyed or missing.
func (m *machine) share(e crypto.Epoch, core cid.Cid) string {
	m.t.Helper()
	s, err := m.keys.Share(e, core)
	if errors.Is(err, keyring.ErrNoEpoch) {
		return ""
	}
	must.Succeed(m.t, err)
	return s.Encode()
}

func coreOf(t *testing.T, text string) cid.Cid {
	t.Helper()
	c, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}.Sum([]byte(text))
	must.Succeed(t, err)
	return c
}

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	must.Succeed(t, err)
	return id
}

const (
	month = crypto.Period("2026-11")
	day   = crypto.Period("2027-02-28")
	later = crypto.Period("2028-02-28")
)

// Another gateway that imports an export gives the same shares.
func TestImportOpensWhatTheExporterOpened(t *testing.T) {
	a, b, id := newMachine(t), newMachine(t), newIdentity(t)
	old, end, next := a.epoch(month), a.epoch(day), a.epoch(later)
	plain, extended := coreOf(t, "plain"), coreOf(t, "extended")
	root := coreOf(t, "root")
	share, err := a.keys.Share(end, extended)
	must.Succeed(t, err)
	must.Succeed(t, a.keys.Extend(root, extended, end, next, false, share))

	src := a.source()
	src.Denied = []byte("bafy…\n")
	var file bytes.Buffer
	wrote, err := export.Write(&file, src, id.Recipient())
	must.Succeed(t, err)
	if len(wrote.Epochs) != 3 || wrote.Extended != 1 || wrote.Denied == 0 {
		t.Errorf("exported %+v", wrote)
	}
	counts := b.imports(file.Bytes(), id)
	if len(counts.Epochs) != 3 || counts.Extended != 1 || counts.Denied != 1 || string(b.denied) != "bafy…\n" {
		t.Errorf("imported %+v", counts)
	}
	for _, e := range []crypto.Epoch{old, end, next} {
		if got, want := b.share(e, plain), a.share(e, plain); got != want || want == "" {
			t.Errorf("%s: the shares differ", e)
		}
	}
	to, _, got, err := b.keys.Extension(root, extended, end)
	if err != nil || to != next || got.Encode() != share.Encode() {
		t.Errorf("the extension leads to %s, %v", to, err)
	}
	if again := b.imports(file.Bytes(), id); len(again.Epochs) != 0 || again.Extended != 0 || again.Destroyed != 0 {
		t.Errorf("the second import brought %+v", again)
	}
	if info, err := os.Stat(filepath.Join(b.dir, "keys", string(old)+".key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info, err)
	}
}

// Neither side's destroyed keys come back, whatever was exported when.
func TestImportBringsNothingDestroyedBack(t *testing.T) {
	a, b, id := newMachine(t), newMachine(t), newIdentity(t)
	e, ended := a.epoch(month), a.epoch(day)
	there, here, kept := coreOf(t, "destroyed there"), coreOf(t, "destroyed here"), coreOf(t, "kept")
	whole := a.export(id.Recipient())
	b.imports(whole, id)

	must.Succeed(t, a.keys.Destroy(e, there))
	must.Succeed(t, b.keys.Destroy(e, here))
	must.Succeed(t, b.keys.End(ended))
	counts := b.imports(a.export(id.Recipient()), id)
	if counts.Destroyed != 1 {
		t.Errorf("got %d new marks, want 1", counts.Destroyed)
	}
	b.imports(whole, id) // an old export, of the time before
	b.reopen()
	for core, want := range map[cid.Cid]bool{there: false, here: false, kept: true} {
		if got := b.share(e, core) != ""; got != want {
			t.Errorf("%s opens: %v, want %v", core, got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(b.dir, "keys", string(ended)+".key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key file of an ended epoch: %v", err)
	}
	// The key file itself has lost them: without the marks they do not come back either.
	must.Succeed(t, os.RemoveAll(filepath.Join(b.dir, "keys", "destroyed")))
	b.reopen()
	for core, want := range map[cid.Cid]bool{there: false, here: false, kept: true} {
		if got := b.share(e, core) != ""; got != want {
			t.Errorf("without marks %s opens: %v, want %v", core, got, want)
		}
	}
}

// An epoch that the exporter has ended ends at the importer too.
func TestImportEndsWhatTheExporterEnded(t *testing.T) {
	a, b, id := newMachine(t), newMachine(t), newIdentity(t)
	ended := a.epoch(day)
	a.epoch(month)
	b.imports(a.export(id.Recipient()), id)
	must.Succeed(t, a.keys.End(ended))
	b.imports(a.export(id.Recipient()), id)
	if err := b.keys.Check(ended); !errors.Is(err, keyring.ErrDestroyed) {
		t.Errorf("got %v", err)
	}
}

func TestExportThatIsDamagedChangesNothing(t *testing.T) {
	a, id := newMachine(t), newIdentity(t)
	a.epoch(month)
	must.Succeed(t, a.keys.Destroy(a.epoch(month), coreOf(t, "destroyed")))
	whole := a.export(id.Recipient())
	refuse := func(what string, file []byte) {
		t.Helper()
		if _, err := export.Open(bytes.NewReader(file), int64(len(file)), id); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	for i := 0; i < len(whole); i += 37 {
		changed := bytes.Clone(whole)
		changed[i] ^= 1
		refuse("a changed byte", changed)
		refuse("a part", whole[:i])
	}
	refuse("more", append(bytes.Clone(whole), 0))
	if _, err := export.Open(bytes.NewReader(whole), int64(len(whole)), newIdentity(t)); !errors.Is(err, export.ErrWrongIdentity) {
		t.Errorf("another identity: %v", err)
	}
}

// A stranger who knows the recipient can write any archive.
func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	id := newIdentity(t)
	e, core := "2026-11.abcdefgh", coreOf(t, "x").String()
	other, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_512}.Sum([]byte("x"))
	must.Succeed(t, err)
	for _, h := range []tar.Header{
		{Name: "../keys/" + e + ".key"},
		{Name: "/keys/" + e + ".key"},
		{Name: "keys/../../" + e + ".key"},
		{Name: "keys/./" + e + ".key"},
		{Name: "keys//" + e + ".key"},
		{Name: "keys/" + e},
		{Name: "keys/" + strings.ToUpper(e) + ".key"},
		{Name: "keys/.exported"},
		{Name: "keys/destroyed/" + e + "/../../../denied"},
		{Name: "keys/destroyed/" + e + "/" + strings.ToUpper(core)},
		{Name: "keys/destroyed/" + e + "/.." + core},
		{Name: "keys/destroyed/../" + core},
		{Name: "keys/destroyed/" + e + "/" + other.String()},
		{Name: "keys/removed/" + e + "/" + core},
		{Name: "keys/extended/" + e + "/all"},
		{Name: "objects/" + core + ".car"},
		{Name: "denied/"},
		{Name: ""},
		{Name: "denied", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		{Name: "denied", Typeflag: tar.TypeLink, Linkname: "keys"},
		{Name: "denied", Typeflag: tar.TypeDir},
		{Name: "keys/destroyed/" + e + "/" + core, Size: 1},
		{Name: "keys/extended/" + e + "/" + core, Size: 10_000},
		{Name: "keys/" + e + ".key", Size: 100}, // not a key file
	} {
		var b bytes.Buffer
		sealed, err := age.Encrypt(&b, id.Recipient())
		must.Succeed(t, err)
		w := tar.NewWriter(sealed)
		must.Succeed(t, w.WriteHeader(&h))
		_, err = w.Write(make([]byte, h.Size))
		must.Succeed(t, errors.Join(err, w.Close(), sealed.Close()))
		if _, err := export.Open(bytes.NewReader(b.Bytes()), int64(b.Len()), id); err == nil {
			t.Errorf("%q of type %q and %d bytes: accepted", h.Name, h.Typeflag, h.Size)
		}
	}
}

// A record that is damaged at the exporter does not keep the others from being restored.
func TestImportPassesOverAnUnusableExtension(t *testing.T) {
	id, from, to := newIdentity(t), newMachine(t), newMachine(t)
	old, later := from.epoch("2027-02-28"), from.epoch("2027-06-30")
	var records []string
	for i := range 3 {
		core := coreOf(t, fmt.Sprint(i))
		b, err := from.keys.Share(old, core)
		must.Succeed(t, err)
		must.Succeed(t, from.keys.Extend(core, core, old, later, false, b))
		records = append(records, filepath.Join(from.dir, "keys", "extended", string(later), core.String()))
	}
	must.Succeed(t, os.Truncate(records[1], 50))
	file := from.export(id.Recipient())
	a, err := export.Open(bytes.NewReader(file), int64(len(file)), id)
	must.Succeed(t, err)
	counts, err := a.Import(to.target())
	if counts.Extended != 2 || err == nil || !strings.Contains(err.Error(), filepath.Base(records[1])) {
		t.Errorf("got %+v, %v; want two extensions, and an error that names the third", counts, err)
	}
	for i := range 3 {
		core := coreOf(t, fmt.Sprint(i))
		if _, _, _, err := to.keys.Extension(core, core, old); (err == nil) != (i != 1) {
			t.Errorf("extension %d: %v", i, err)
		}
	}
}

// An administrator without Detach restores an export with age and tar.
func TestExportIsATarOfTheDataDirectory(t *testing.T) {
	a, id, dir := newMachine(t), newIdentity(t), t.TempDir()
	e, core := a.epoch(month), coreOf(t, "x")
	gone := coreOf(t, "gone")
	must.Succeed(t, a.keys.Destroy(e, gone))
	plain, err := age.Decrypt(bytes.NewReader(a.export(id.Recipient())), id)
	must.Succeed(t, err)
	r := tar.NewReader(plain)
	for h, err := r.Next(); err != io.EOF; h, err = r.Next() {
		must.Succeed(t, err)
		path := filepath.Join(dir, h.Name)
		content, err := io.ReadAll(r)
		must.Succeed(t, err)
		must.Succeed(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must.Succeed(t, os.WriteFile(path, content, os.FileMode(h.Mode)))
	}
	keys, err := keyring.Open(filepath.Join(dir, "keys"))
	must.Succeed(t, err)
	got, err := keys.Share(e, core)
	if err != nil || got.Encode() != a.share(e, core) {
		t.Errorf("the shares differ, %v", err)
	}
	if _, err := keys.Share(e, gone); !errors.Is(err, keyring.ErrDestroyed) {
		t.Errorf("destroyed: %v", err)
	}
}

func TestKeyringWithoutKeysIsNotExported(t *testing.T) {
	if _, err := export.Write(io.Discard, newMachine(t).source(), newIdentity(t).Recipient()); !errors.Is(err, export.ErrEmpty) {
		t.Errorf("got %v", err)
	}
}

func TestEpochsSinceTheLastExportAreMissing(t *testing.T) {
	a := newMachine(t)
	dir, e := filepath.Join(a.dir, "keys"), a.epoch(month)
	last, missing, err := export.Missing(dir, []crypto.Epoch{e})
	if err != nil || !last.IsZero() || !slices.Equal(missing, []crypto.Epoch{e}) {
		t.Errorf("never exported: %v, %v, %v", last, missing, err)
	}
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	must.Succeed(t, export.Record(dir, now, []crypto.Epoch{e}))
	if last, missing, err = export.Missing(dir, []crypto.Epoch{e}); err != nil || !last.Equal(now) || len(missing) != 0 {
		t.Errorf("exported: %v, %v, %v", last, missing, err)
	}
	next := a.epoch(day)
	if _, missing, err = export.Missing(dir, []crypto.Epoch{e, next}); err != nil || !slices.Equal(missing, []crypto.Epoch{next}) {
		t.Errorf("a new epoch: %v, %v", missing, err)
	}
	must.Succeed(t, os.WriteFile(filepath.Join(dir, ".exported"), nil, 0o600))
	if _, missing, err = export.Missing(dir, []crypto.Epoch{e}); err != nil || len(missing) != 1 {
		t.Errorf("a damaged record: %v, %v", missing, err)
	}
	a.reopen() // the record does not disturb the keyring
}

func TestPassphraseMustBeLong(t *testing.T) {
	for text, ok := range map[string]bool{"": false, "hunter2": false, "elf zeichen": false, "zwölf äöüäöü": true} {
		if _, err := export.PassphraseRecipient(text); (err == nil) != ok {
			t.Errorf("%d characters: %v", len([]rune(text)), err)
		}
	}
}

func TestPassphraseIsRecognized(t *testing.T) {
	a := newMachine(t)
	a.epoch(month)
	r, err := age.NewScryptRecipient("correct horse battery")
	must.Succeed(t, err)
	r.SetWorkFactor(10)
	file := a.export(r)
	if !export.NeedsPassphrase(bytes.NewReader(file)) {
		t.Error("an export with a passphrase is not recognized")
	}
	id, err := export.PassphraseIdentity("correct horse battery")
	must.Succeed(t, err)
	newMachine(t).imports(file, id)
	wrong, err := export.PassphraseIdentity("correct horse")
	must.Succeed(t, err)
	if _, err := export.Open(bytes.NewReader(file), int64(len(file)), wrong); !errors.Is(err, export.ErrWrongIdentity) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if export.NeedsPassphrase(bytes.NewReader(a.export(newIdentity(t).Recipient()))) || export.NeedsPassphrase(strings.NewReader("x")) {
		t.Error("other files need a passphrase")
	}
}

// A pasted secret key is in no error.
func TestSecretKeysAreNotQuoted(t *testing.T) {
	id, path := newIdentity(t), filepath.Join(t.TempDir(), "file")
	damaged := id.String()[:40] + "!" + id.String()[41:]
	must.Succeed(t, os.WriteFile(path, []byte(damaged+"\n"), 0o600))
	_, one := export.ParseRecipient(id.String())
	_, file := export.ReadRecipients(path)
	_, identity := export.ReadIdentities(path)
	for _, err := range []error{one, file, identity} {
		if err == nil || strings.Contains(err.Error(), id.String()[20:30]) {
			t.Errorf("got %v", err)
		}
	}
}

// An extension is another way to a share, and an old export has it.
func TestImportDoesNotExtendWhatIsDestroyed(t *testing.T) {
	a, b, id := newMachine(t), newMachine(t), newIdentity(t)
	old, to := a.epoch(day), a.epoch(later)
	root, core := coreOf(t, "root"), coreOf(t, "core")
	share, err := a.keys.Share(old, core)
	must.Succeed(t, err)
	before := a.export(id.Recipient())
	must.Succeed(t, a.keys.Extend(root, core, old, to, false, share))
	whole := a.export(id.Recipient())

	b.imports(before, id)
	must.Succeed(t, b.keys.Destroy(old, core)) // b does not know of the extension
	if counts := b.imports(whole, id); counts.Extended != 0 {
		t.Errorf("imported %+v", counts)
	}
	if _, _, _, err := b.keys.Extension(root, core, old); !errors.Is(err, keyring.ErrNoExtension) {
		t.Errorf("the destroyed file is extended: %v", err)
	}
	// Neither does one into an epoch that has ended here.
	c := newMachine(t)
	c.imports(before, id)
	must.Succeed(t, c.keys.End(to))
	if counts := c.imports(whole, id); counts.Extended != 0 {
		t.Errorf("imported %+v", counts)
	}
}

// An export that runs while keys are destroyed is whole, and a mark is never without its effect.
func TestExportIsWholeWhileKeysAreDestroyed(t *testing.T) {
	a, id := newMachine(t), newIdentity(t)
	e := a.epoch(month)
	var cores []cid.Cid
	for i := range 60 {
		cores = append(cores, coreOf(t, fmt.Sprint(i)))
	}
	var running sync.WaitGroup
	running.Go(func() {
		for _, core := range cores {
			if err := a.keys.Destroy(e, core); err != nil {
				t.Error(err)
			}
		}
	})
	for range 5 {
		b := newMachine(t)
		b.imports(a.export(id.Recipient()), id)
		for i, core := range cores {
			_, err := os.Lstat(filepath.Join(b.dir, "keys", "destroyed", string(e), core.String()))
			if marked := err == nil; marked == (b.share(e, core) != "") {
				t.Errorf("object %d is marked as destroyed: %v, and opens: %v", i, marked, !marked)
			}
		}
	}
	running.Wait()
	b := newMachine(t)
	b.imports(a.export(id.Recipient()), id)
	for i, core := range cores {
		if b.share(e, core) != "" {
			t.Errorf("object %d opens", i)
		}
	}
}
