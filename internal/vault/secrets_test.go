package vault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/crypto"
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

// wantNoNewSecret checks that nothing can be stored, and that no key file is made.
func wantNoNewSecret(t *testing.T, s *site, v *Vault) {
	t.Helper()
	b := v.Begin()
	defer b.Close()
	_, err := b.Detach(t.Context(), "a", "text/plain", strings.NewReader("x"))
	wantErr(t, "Detach", err, ErrKeyMissing)
	wantErr(t, "CanStore", v.CanStore(), ErrKeyMissing)
	if made, _ := filepath.Glob(filepath.Join(s.dir, "keys", "*")); len(made) > 0 {
		t.Errorf("made %q", made)
	}
}

// restarted opens the site as a new process does, which makes the directories that are missing.
func (s *site) restarted(t *testing.T) *Vault {
	t.Helper()
	keys, err := crypto.OpenKeyring(filepath.Join(s.dir, "keys"))
	must.Succeed(t, err)
	s.keys = keys
	return s.vault(t, nil)
}

// While the keyring is missing, links fail for the time being, nothing is stored, and no secret is
// made anew. When it is back, all links work: the old ones and those that are stored from then on.
func TestMissingKeyringHealsWhenItIsBack(t *testing.T) {
	faults.Covers(t, 80)
	for name, months := range map[string]int{"in its epoch": 0, "in a later epoch": 1} {
		t.Run(name, func(t *testing.T) {
			s, v := newVault(t)
			old := detached(t, v, []byte("old"))
			wantProblems(t, v)
			s.now = s.now.AddDate(0, months, 0)
			keys, away := filepath.Join(s.dir, "keys"), filepath.Join(t.TempDir(), "away")
			must.Succeed(t, os.Rename(keys, away))
			v = s.restarted(t)
			for _, name := range []string{"Object", "Open"} {
				wantErr(t, name, routes(v, old)[name](t.Context()), ErrKeyMissing)
			}
			wantProblems(t, v, "keys/2026-11.key")
			wantNoNewSecret(t, s, v)

			must.Succeed(t, os.Remove(keys))
			must.Succeed(t, os.Rename(away, keys))
			wantContent(t, v, old, []byte("old"))
			must.Succeed(t, v.CanStore())
			wantContent(t, v, detached(t, v, []byte("new")), []byte("new"))
			wantProblems(t, v)
		})
	}
}

// One key file is missing. Only its epoch is closed: later ones store and open.
func TestMissingKeyClosesItsEpochAlone(t *testing.T) {
	faults.Covers(t, 80)
	s, v := newVault(t)
	november := detached(t, v, []byte("november"))
	s.now = s.now.AddDate(0, 1, 0)
	december := detached(t, v, []byte("december"))
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "keys", "2026-11.key")))
	wantContent(t, v, december, []byte("december"))
	wantContent(t, v, detached(t, v, []byte("more")), []byte("more"))
	wantErr(t, "november", errOf(v.Open(t.Context(), november.CID, november.Fragment)), ErrKeyMissing)
	wantProblems(t, v, "keys/2026-11.key")

	// The operator gives the epoch up.
	must.Succeed(t, os.WriteFile(filepath.Join(s.dir, "keys", "2026-11.destroyed"), nil, 0o600))
	wantProblems(t, v)
	wantErr(t, "november, given up", errOf(v.Open(t.Context(), november.CID, november.Fragment)), ErrExpired)
}

// Nothing needs a secret whose objects have all expired, nor one of an epoch in which only objects
// of mode "link" were stored.
func TestUnneededKeyIsNotMissed(t *testing.T) {
	faults.Covers(t, 80)
	s := newSite(t)
	v := s.vault(t, func(c *Config) { c.Retention = 2 * day })
	detached(t, v, []byte("expires"))
	must.Succeed(t, os.Remove(filepath.Join(s.dir, "keys", "2026-11-22.key")))
	wantProblems(t, v, "keys/2026-11-22.key")
	s.now = s.now.Add(2 * day)
	wantProblems(t, v)

	linkOnly := s.vault(t, func(c *Config) { c.Mode = LinkOnly })
	l := detached(t, linkOnly, []byte("for ever"))
	wantProblems(t, v)
	split := s.vault(t, nil) // of the same month
	wantContent(t, split, l, []byte("for ever"))
	wantContent(t, split, detached(t, split, []byte("split")), []byte("split"))
}

// If the secret goes while a mail is stored, the mail fails: another secret would not open what it
// has stored so far.
func TestSecretOfABatchStaysTheSame(t *testing.T) {
	s, v := newVault(t)
	key := filepath.Join(s.dir, "keys", "2026-11.key")
	b := v.Begin()
	defer b.Close()
	detach(t, b, []byte("one"))
	must.Succeed(t, os.Remove(key))
	if _, err := b.Detach(t.Context(), "a", "text/plain", strings.NewReader("two")); !errors.Is(err, crypto.ErrNoEpoch) {
		t.Errorf("second attachment: got %v, want %v", err, crypto.ErrNoEpoch)
	}
	detached(t, s.vault(t, nil), []byte("of another process")) // which makes a new secret
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
