package vault

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// wantProblems wants exactly one problem for each of these texts.
func wantProblems(t *testing.T, v *Vault, want ...string) {
	t.Helper()
	got := v.Problems()
	for i, p := range got {
		if i >= len(want) || !strings.Contains(p.Err.Error(), want[i]) {
			t.Errorf("problem %d: %s: %v", i, p.Part, p.Err)
		}
	}
	if len(got) < len(want) {
		t.Errorf("%d problems, want %q", len(got), want)
	}
}

// restarted opens the site as a new process does, which makes the directories that are missing.
func (s *site) restarted(t *testing.T) *Vault {
	t.Helper()
	keys, err := keyring.Open(filepath.Join(s.dir, "keys"))
	must.Succeed(t, err)
	s.keys = keys
	return s.vault(t, nil)
}

// While the keyring is missing, links fail for the time being, and mail gets a new epoch. When the
// keyring is back, all links work: the old ones, and those that were made meanwhile.
func TestMissingKeyringHealsWhenItIsBack(t *testing.T) {
	faults.Covers(t, 80)
	for name, months := range map[string]int{"in its epoch": 0, "in a later epoch": 1} {
		t.Run(name, func(t *testing.T) {
			s, v := newVault(t)
			old := detached(t, v, []byte("old"))
			epoch := s.epoch(t)
			wantProblems(t, v)
			s.now = s.now.AddDate(0, months, 0)
			keys, away := filepath.Join(s.dir, "keys"), filepath.Join(t.TempDir(), "away")
			must.Succeed(t, os.Rename(keys, away))
			v = s.restarted(t)
			wantAll(t, v, old, ErrKeyMissing)
			wantProblems(t, v, "keys/"+string(epoch)+".key")
			must.Succeed(t, v.CanStore())
			meanwhile := detached(t, v, []byte("meanwhile"))

			copyOver(t, away, keys)
			wantContent(t, v, old, []byte("old"))
			wantContent(t, v, meanwhile, []byte("meanwhile"))
			wantContent(t, v, detached(t, v, []byte("new")), []byte("new"))
			wantProblems(t, v)
		})
	}
}

// copyOver merges two directories, as an operator does.
func copyOver(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-r", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// One key file is missing. Only its epoch is closed: later ones store and open.
func TestMissingKeyClosesItsEpochAlone(t *testing.T) {
	faults.Covers(t, 80)
	s, v := newVault(t)
	november, lost := detached(t, v, []byte("november")), s.epoch(t)
	s.now = s.now.AddDate(0, 1, 0)
	december := detached(t, v, []byte("december"))
	must.Succeed(t, os.Remove(s.keyFile(lost)))
	wantContent(t, v, december, []byte("december"))
	wantContent(t, v, detached(t, v, []byte("more")), []byte("more"))
	wantAll(t, v, november, ErrKeyMissing)
	wantProblems(t, v, "keys/"+string(lost)+".key")

	// The operator gives the epoch up.
	given := filepath.Join(s.dir, "keys", "destroyed", string(lost))
	must.Succeed(t, os.MkdirAll(given, 0o700))
	must.Succeed(t, os.WriteFile(filepath.Join(given, "all"), nil, 0o600))
	wantProblems(t, v)
	wantAll(t, v, november, ErrExpired)
}

// A damaged key file is as one that is missing, also when the process starts: its epoch alone is
// closed, until the right file is put back.
func TestDamagedKeyClosesItsEpochAlone(t *testing.T) {
	faults.Covers(t, 80)
	s, v := newVault(t)
	november, lost := detached(t, v, []byte("november")), s.epoch(t)
	good, err := os.ReadFile(s.keyFile(lost))
	must.Succeed(t, err)
	s.now = s.now.AddDate(0, 1, 0)
	december := detached(t, v, []byte("december"))
	must.Succeed(t, os.WriteFile(s.keyFile(lost), good[:len(good)-1], 0o600))
	for _, v := range []*Vault{v, s.restarted(t)} {
		wantContent(t, v, december, []byte("december"))
		wantAll(t, v, november, ErrKeyMissing)
		wantProblems(t, v, "keys/"+string(lost)+".key")
		must.Succeed(t, v.CanStore())
	}
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "ledger", string(lost)+".jsonl")))
	wantAll(t, s.restarted(t), november, ErrNotFound) // nothing proves that it is ours
	must.Succeed(t, os.WriteFile(s.keyFile(lost), good, 0o600))
	wantContent(t, s.restarted(t), november, []byte("november"))
}

// Nothing needs a secret whose objects have all ended.
func TestUnneededKeyIsNotMissed(t *testing.T) {
	faults.Covers(t, 80)
	s, v := newVault(t)
	l := kept(t, v, 2*day, []byte("ends"))
	lost := s.epoch(t)
	must.Succeed(t, os.Remove(s.keyFile(lost)))
	wantProblems(t, v, "keys/"+string(lost)+".key")
	s.now = lost.End()
	wantProblems(t, v)
	wantAll(t, v, l, ErrExpired)
}

// If the secrets go while a mail is stored, the mail fails: its links would not work.
func TestSecretOfABatchStaysTheSame(t *testing.T) {
	s, v := newVault(t)
	b := v.Begin(0)
	defer b.Close()
	detach(t, b, []byte("one"))
	must.Succeed(t, os.Remove(s.keyFile(b.epoch)))
	if _, err := b.Detach(t.Context(), "a", "text/plain", strings.NewReader("two")); !errors.Is(err, keyring.ErrNoEpoch) {
		t.Errorf("second attachment: got %v, want %v", err, keyring.ErrNoEpoch)
	}
	detached(t, s.vault(t, nil), []byte("of another process")) // which makes a new epoch
	if err := b.Commit(t.Context()); err == nil {
		t.Error("committed, although the links do not work")
	}
}

// A ledger of many epochs names some of those whose secrets are missing, in one line.
func TestProblemIsOneShortLine(t *testing.T) {
	s, v := newVault(t)
	var links []link.Link
	for range 30 {
		links = append(links, detached(t, v, []byte("x")))
		s.now = s.now.AddDate(0, 1, 0)
	}
	keys, err := filepath.Glob(filepath.Join(s.dir, "keys", "*.key"))
	must.Succeed(t, err)
	for _, key := range keys {
		must.Succeed(t, os.Remove(key))
	}
	got := v.Problems()
	if len(got) != 1 || got[0].Part != "keys" || len(got[0].Err.Error()) > 500 || !strings.Contains(got[0].Err.Error(), fmt.Sprintf("and %d more", len(links)-maxNamed)) {
		t.Errorf("got %v", got)
	}
}
