package export

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
)

// The limits of an archive, whose writer may be a stranger that knows the recipient.
const (
	maxKeyFile  = keyring.MaxKeyFile
	maxExtended = keyring.MaxExtension
	maxDenied   = 256 << 20
	maxEntries  = 10_000_000
)

// ErrWrongIdentity says that an export is for other recipients, or has another passphrase.
var ErrWrongIdentity = errors.New("the export opens with none of these identities")

// Archive is an export that has proved whole.
type Archive struct {
	plain io.ReaderAt
	size  int64
}

// Open reads an export of size bytes to its end, and verifies it: each byte, each name, each key
// file. It returns ErrWrongIdentity, or what is wrong with the file, without age's words about
// identities. Nobody may change src before the archive was imported; changes are noticed.
func Open(src io.ReaderAt, size int64, identities ...age.Identity) (*Archive, error) {
	plain, n, err := age.DecryptReaderAt(src, size, identities...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrWrongIdentity
	} else if err != nil {
		return nil, fmt.Errorf("not an export of keys, or damaged: %w", err)
	}
	a := &Archive{plain, n}
	if err := a.verify(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Archive) verify() error {
	entries := 0
	return a.each(func(e entry, content io.Reader, _ int64) error {
		if entries++; entries > maxEntries {
			return fmt.Errorf("the export has more than %d entries", maxEntries)
		}
		if e.kind != keyFile {
			_, err := io.Copy(io.Discard, content)
			return err
		}
		file, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		return keyring.Verify(e.epoch, file)
	})
}

// each calls use for each entry.
func (a *Archive) each(use func(e entry, content io.Reader, size int64) error) error {
	archive := io.NewSectionReader(a.plain, 0, a.size)
	r := tar.NewReader(archive)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("the export is damaged: %w", err)
		}
		e, err := parseName(h.Name)
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || h.Size > e.maxSize() {
			return fmt.Errorf("the entry %q is larger than Detach writes it, or not a file", h.Name)
		}
		if err := use(e, r, h.Size); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	// The rest is the end of the archive. It is read because age says only there whether the file
	// was cut.
	if _, err := io.Copy(io.Discard, archive); err != nil {
		return fmt.Errorf("the export is damaged: %w", err)
	}
	return nil
}
