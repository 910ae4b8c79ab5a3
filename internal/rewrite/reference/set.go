package reference

import (
	"errors"
	"hash/maphash"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

const (
	// maxTable bounds the entries of the table of names. Texts with more different names count as
	// referring to everything. Newsletters have a hundred.
	maxTable = 64 << 10
	minTable = 64
	// entrySize is the memory of an entry.
	entrySize = 8
)

// A Set has the names of the parts that the texts of one mail refer to. The zero value is an empty
// Set. It is not safe for concurrent use.
//
// It keeps hashes with a random seed. Two names with the same hash only keep a file in the mail,
// and a sender cannot choose them without the seed.
type Set struct {
	seed  maphash.Seed
	table []uint64 // open addressing; 0 is a free entry
	used  int
	read  int64 // bytes of all texts
	work  int64 // see maxWork
	any   bool  // the texts may refer to anything: they are over a limit, or could not be read
}

// A Text is a text of a mail.
type Text struct {
	Type    string    // media type, in lower case: text/html, text/css, text/calendar, image/svg+xml
	Charset string    // as declared; may be empty
	Content io.Reader // without the transfer encoding; may return transfer.ErrDamaged; nil: unknown
}

// Read notes the names that a text refers to. It takes memory for them from account. If there is
// none, or the text cannot be read, the text counts as referring to everything. Read returns errors
// of t.Content, except for transfer.ErrDamaged.
func (s *Set) Read(t Text, account *memory.Account) error {
	sc := scanner{set: s, account: account}
	err := sc.readText(t)
	if errors.Is(err, transfer.ErrDamaged) {
		s.any, err = true, nil
	}
	if s.any {
		account.Give(int64(len(s.table)) * entrySize)
		s.table = nil
	}
	return err
}

// add adds a name, with memory from account.
func (s *Set) add(name string, account *memory.Account) {
	if name == "" || s.any {
		return
	}
	if s.used >= len(s.table)/4*3 && !s.grow(account) {
		s.any = true
		return
	}
	if entry, found := s.find(s.hash(name)); !found {
		*entry = s.hash(name)
		s.used++
	}
}

func (s *Set) has(name string) bool {
	if s.used == 0 || name == "" {
		return false
	}
	_, found := s.find(s.hash(name))
	return found
}

func (s *Set) hash(name string) uint64 { return max(1, maphash.String(s.seed, name)) }

// find returns the entry of a hash, or the free entry for it.
func (s *Set) find(hash uint64) (entry *uint64, found bool) {
	mask := uint64(len(s.table) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		if e := &s.table[i]; *e == hash || *e == 0 {
			return e, *e == hash
		}
	}
}

// grow doubles the table, and reports whether there was memory for it.
func (s *Set) grow(account *memory.Account) bool {
	old := s.table
	size := max(minTable, 2*len(old))
	if size > maxTable || !account.Take(int64(size)*entrySize) {
		return false
	}
	if old == nil {
		s.seed = maphash.MakeSeed()
	}
	s.table = make([]uint64, size)
	for _, hash := range old {
		if hash != 0 {
			entry, _ := s.find(hash)
			*entry = hash
		}
	}
	account.Give(int64(len(old)) * entrySize)
	return true
}
