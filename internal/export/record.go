package export

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// recordName is the file beside the keys that says what the last export had: its time (RFC 3339) on
// the first line, and an epoch on each further one.
const recordName = ".exported"

// Record notes that an export with these epochs is whole. dir is the keyring's directory.
func Record(dir string, now time.Time, epochs []crypto.Epoch) error {
	var text bytes.Buffer
	fmt.Fprintln(&text, now.UTC().Format(time.RFC3339))
	for _, e := range epochs {
		fmt.Fprintln(&text, e)
	}
	f, err := durable.CreateLocked(dir, recordName+"-*")
	if err != nil {
		return fmt.Errorf("note the export: %w", err)
	}
	_, err = f.Write(text.Bytes())
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, recordName))
	}
	if err != nil {
		err = errors.Join(err, durable.Remove(f.Name()))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("note the export: %w", err)
	}
	return durable.SyncDir(dir)
}

// Missing returns which of the epochs are not in the last export, and when it was made: the zero
// time if there was none.
func Missing(dir string, epochs []crypto.Epoch) (last time.Time, missing []crypto.Epoch, err error) {
	text, err := os.ReadFile(filepath.Join(dir, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, epochs, nil
	} else if err != nil {
		return time.Time{}, nil, fmt.Errorf("read when the keys were exported: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Scan()
	if last, err = time.Parse(time.RFC3339, lines.Text()); err != nil {
		return time.Time{}, epochs, nil // damaged: as if there had been none
	}
	exported := make(map[crypto.Epoch]bool)
	for lines.Scan() {
		exported[crypto.Epoch(lines.Text())] = true
	}
	return last, slices.DeleteFunc(slices.Clone(epochs), func(e crypto.Epoch) bool { return exported[e] }), nil
}
