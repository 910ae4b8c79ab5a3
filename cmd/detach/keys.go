package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/export"
)

type keysCmd struct {
	Export keysExportCmd `cmd:"" help:"Write what opens the links into one encrypted file: the keyring and the deny list."`
	Import keysImportCmd `cmd:"" help:"Add what such a file has to this keyring and deny list. The service may run."`
}

type keysExportCmd struct {
	configFlag
	Recipient      []string `short:"r" placeholder:"age1…" help:"Encrypt for this age recipient. May be given several times."`
	RecipientsFile []string `short:"R" placeholder:"FILE" help:"Encrypt for the age recipients in FILE."`
	Passphrase     bool     `help:"Encrypt with a passphrase, which is asked on the terminal."`
	PassphraseFile string   `placeholder:"FILE" help:"Encrypt with the passphrase on the first line of FILE, such as /dev/fd/3."`
	Output         string   `short:"o" placeholder:"FILE" default:"-" help:"Where to write. An existing file is replaced once the new one is whole. Default: standard output."`
}

// Run writes the export, and notes when it was made and what it has.
func (c *keysExportCmd) Run(e *env) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	recipients, err := c.recipients(e)
	if err != nil {
		return usageError{err}
	}
	src, err := exportSource(cfg)
	if err != nil {
		return err
	}
	var counts export.Counts
	err = writeExport(e, c.Output, func(w io.Writer) (err error) {
		if counts, err = export.Write(w, src, recipients...); err != nil {
			return err
		}
		return c.keepOlder(counts)
	})
	if err != nil {
		return err
	}
	// Only now: FILE belongs to the user that runs this, and the note to the owner of data_dir.
	if err := becomeOwner(cfg.DataDir); err != nil {
		return err
	}
	if err := export.Record(keysDir(cfg), time.Now(), counts.Epochs); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stderr, "exported %s, %s, %s\n"+
		"Everyone who can decrypt this export can open every link that works now, also after it is revoked, destroyed or ended here.\n"+
		"Keep it apart from the objects, and delete it when a newer one has taken its place.\n",
		count(len(counts.Epochs), "epoch"), count(counts.Extended, "extension"), count(counts.Destroyed, "mark of something destroyed", "marks of what is destroyed"))
	for _, why := range counts.LeftOut {
		err = errors.Join(err, fmt.Errorf("not in the export: %w", why))
	}
	return err
}

// keepOlder returns an error if an export would take the place of an older one that may have the keys
// that it lacks.
func (c *keysExportCmd) keepOlder(counts export.Counts) error {
	if _, err := os.Lstat(c.Output); err != nil || len(counts.LeftOut) == 0 {
		return nil
	}
	return fmt.Errorf("%w\n%s stays as it is, because it may have what this export lacks: detach keys import %[2]s mends the key file; or name another file", errors.Join(counts.LeftOut...), c.Output)
}

// recipients returns for whom the export is encrypted.
func (c *keysExportCmd) recipients(e *env) (all []age.Recipient, err error) {
	for _, text := range c.Recipient {
		one, err := export.ParseRecipient(text)
		if err != nil {
			return nil, fmt.Errorf("--recipient: %w", err)
		}
		all = append(all, one...)
	}
	for _, path := range c.RecipientsFile {
		some, err := export.ReadRecipients(path)
		if err != nil {
			return nil, fmt.Errorf("--recipients-file: %w", err)
		}
		all = append(all, some...)
	}
	byPassphrase := c.Passphrase || c.PassphraseFile != ""
	switch {
	case byPassphrase && len(all) > 0:
		return nil, errors.New("an export is either for recipients or for a passphrase: leave out one of the two")
	case !byPassphrase && len(all) == 0:
		return nil, errors.New("say who may read the export: --recipient age1…, --recipients-file FILE, --passphrase or --passphrase-file FILE")
	case len(all) > 0:
		return all, nil
	}
	passphrase, err := newPassphrase(e, c.PassphraseFile)
	if err != nil {
		return nil, err
	}
	r, err := export.PassphraseRecipient(passphrase)
	return []age.Recipient{r}, err
}

// quiet is the log of the deny list when it is moved: serve logs what is wrong in it.
var quiet = slog.New(slog.DiscardHandler)

func keysDir(cfg config.Config) string { return filepath.Join(cfg.DataDir, "keys") }

// exportSource opens what is exported, without changing it.
func exportSource(cfg config.Config) (export.Source, error) {
	keys, err := keyring.Read(keysDir(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return export.Source{}, fmt.Errorf("%s does not exist: there are no keys yet", keysDir(cfg))
	} else if err != nil {
		return export.Source{}, fmt.Errorf("data_dir: %w", durable.WithRemedy(err, cfg.DataDir))
	}
	list, err := denyList(cfg, quiet).Export()
	return export.Source{Keys: keys, DataDir: cfg.DataDir, Denied: list}, err
}

// writeExport writes a file, which gets its name when it is whole, or standard output.
func writeExport(e *env, path string, write func(io.Writer) error) error {
	if path != "-" {
		return replaceFile(path, write)
	}
	if isTerminal(e.stdout) {
		return usageError{errors.New("an export is not for a terminal: give -o FILE, or redirect standard output")}
	}
	return write(e.stdout)
}

// replaceFile writes a file of mode 0600 in the place of path. If it fails, the old file stays.
func replaceFile(path string, write func(io.Writer) error) error {
	if dir := filepath.Dir(path); !isDir(dir) {
		return fmt.Errorf("the directory %s does not exist: make it, or name another file", dir)
	}
	f, err := durable.CreateLocked(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	if err = errors.Join(write(f), f.Sync()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, durable.Remove(f.Name()), f.Close())
	}
	return errors.Join(f.Close(), durable.SyncDir(filepath.Dir(path)))
}

type keysImportCmd struct {
	configFlag
	Identity       []string `short:"i" placeholder:"FILE" help:"The age identity that opens the export, as age-keygen writes it."`
	PassphraseFile string   `placeholder:"FILE" help:"The passphrase is on the first line of FILE, such as /dev/fd/3. Default: it is asked on the terminal."`
	File           string   `arg:"" help:"The export; - for standard input. Import only exports that you have made: everyone who knows the recipient can write one."`
}

// Run reads and verifies the whole export, and then adds what it has.
func (c *keysImportCmd) Run(e *env) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	file, size, err := openExport(e, c.File)
	if err != nil {
		return err
	}
	defer file.Close()
	identities, err := c.identities(e, io.NewSectionReader(file, 0, size))
	if err != nil {
		return usageError{err}
	}
	archive, err := export.Open(file, size, identities...)
	if _, scrypt := identities[0].(*age.ScryptIdentity); scrypt && errors.Is(err, export.ErrWrongIdentity) {
		err = errors.New("the passphrase is another")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	target, err := importTarget(cfg)
	if err != nil {
		return err
	}
	counts, err := archive.Import(target)
	said := fmt.Sprintf("imported %s, %s, %s, %s\n", count(len(counts.Epochs), "new epoch"), count(counts.Extended, "new extension"),
		count(counts.Destroyed, "new mark of something destroyed", "new marks of what is destroyed"), count(counts.Denied, "new line of the deny list", "new lines of the deny list"))
	_, writeErr := io.WriteString(e.stderr, said)
	return errors.Join(err, writeErr)
}

// importTarget opens the keyring as the user that owns data_dir, and makes it if it is new.
func importTarget(cfg config.Config) (export.Target, error) {
	if err := enterDataDir(cfg); err != nil {
		return export.Target{}, err
	}
	keys, err := keyring.Open(keysDir(cfg))
	if err != nil {
		return export.Target{}, usageError{fmt.Errorf("data_dir: %w", durable.WithRemedy(err, cfg.DataDir))}
	}
	return export.Target{Keys: keys, DataDir: cfg.DataDir, Deny: denyList(cfg, quiet).Merge}, nil
}

// identities returns what opens the export.
func (c *keysImportCmd) identities(e *env, src io.Reader) (all []age.Identity, err error) {
	if export.NeedsPassphrase(src) {
		passphrase, err := knownPassphrase(e, c.PassphraseFile)
		if err != nil {
			return nil, err
		}
		id, err := export.PassphraseIdentity(passphrase)
		return []age.Identity{id}, err
	}
	for _, path := range c.Identity {
		some, err := export.ReadIdentities(path)
		if err != nil {
			return nil, fmt.Errorf("--identity: %w", err)
		}
		all = append(all, some...)
	}
	if len(all) == 0 {
		return nil, errors.New("the export has no passphrase: name the age identity that opens it, --identity FILE")
	}
	return all, nil
}

// openExport opens a file that is read several times. Standard input, or a pipe, is copied into a
// file without a name first, encrypted as it is.
func openExport(e *env, path string) (*os.File, int64, error) {
	var in io.Reader = e.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, err
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return f, info.Size(), nil
		}
		defer f.Close()
		in = f
	}
	f, err := os.CreateTemp("", "detach-import-*")
	if err != nil {
		return nil, 0, err
	}
	n, err := io.Copy(f, in)
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, n, nil
}

// count returns a number with its noun. The plural is regular unless it is given.
func count(n int, noun ...string) string {
	word := noun[0]
	if n != 1 {
		word = noun[len(noun)-1]
		if len(noun) == 1 {
			word += "s"
		}
	}
	return fmt.Sprintf("%d %s", n, word)
}

// firstLine returns the first line of a file that holds a secret. Others must not be able to read
// the file, unless it is a pipe.
func firstLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("everyone can use %s (mode %04o): chmod 0600 %[1]s", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), err
}
