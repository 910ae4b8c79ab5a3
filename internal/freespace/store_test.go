package freespace

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// memoryStore takes blocks, which take space on a disk, and keeps none. Only Put and Check work.
type memoryStore struct {
	ipfs.Store
	disk *disk
}

func (s memoryStore) Put(ctx context.Context, name string, build func(ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	return build(func(b ipfs.Block) error {
		s.disk.write(int64(len(b.Data)))
		return nil
	})
}

func (s memoryStore) Check(context.Context) error { return nil }

func put(t *testing.T, s *Store, size int) error {
	_, err := s.Put(t.Context(), "name", func(add ipfs.AddFunc) (cid.Cid, error) {
		n, err := ipfs.AddFile(add, bytes.NewReader(make([]byte, size)))
		return n.CID, err
	})
	return err
}

// An object that does not fit fails while it arrives, and the minimum stays free.
func TestLargeObjectStopsAboveTheMinimum(t *testing.T) {
	d := &disk{free: 10 << 20}
	s := NewStore(memoryStore{disk: d}, New("disk", always(4<<20), 0, d.measure))
	must.Succeed(t, put(t, s, 2<<20))
	err := put(t, s, 64<<20)
	if !errors.Is(err, ErrLow) || !errors.Is(err, ipfs.ErrUnavailable) {
		t.Errorf("got %v, want ErrLow and ErrUnavailable", err)
	}
	if d.free < 4<<20 || d.free > 6<<20 {
		t.Errorf("%d bytes are left, want a little more than 4 MiB", d.free)
	}
	must.Succeed(t, s.Check(t.Context()))
	d.write(3 << 20)
	called := false
	_, err = s.Put(t.Context(), "name", func(ipfs.AddFunc) (cid.Cid, error) { called = true; return cid.Undef, nil })
	if !errors.Is(err, ErrLow) || called {
		t.Errorf("below the minimum: %v, and the attachment was read: %v", err, called)
	}
	if err := s.Check(t.Context()); !errors.Is(err, ErrLow) {
		t.Errorf("Check: %v, want ErrLow", err)
	}
}

// Put fails even if build does not pass the error on.
func TestIgnoredErrorFailsPut(t *testing.T) {
	d := &disk{free: 10}
	s := NewStore(memoryStore{disk: d}, New("disk", always(5), 0, d.measure))
	_, err := s.Put(t.Context(), "name", func(add ipfs.AddFunc) (cid.Cid, error) {
		add(ipfs.Block{Data: make([]byte, 6)})
		add(ipfs.Block{Data: make([]byte, 1)})
		return cid.Undef, nil
	})
	if !errors.Is(err, ErrLow) || d.free != 10 {
		t.Errorf("got %v with %d bytes left, want ErrLow and nothing written", err, d.free)
	}
}

func TestEveryGuardMustAdmit(t *testing.T) {
	roomy, tight := &disk{free: 1000}, &disk{free: 100}
	s := NewStore(memoryStore{disk: roomy}, New("roomy", always(10), 0, roomy.measure), New("tight", always(90), 0, tight.measure))
	if g, state, ok := s.Tightest(t.Context()); !ok || g.Name() != "tight" || state != (State{Free: 100, Min: 90}) || state.Low() {
		t.Errorf("tightest %v, %+v", g, state)
	}
	if err := put(t, s, 20); !errors.Is(err, ErrLow) || roomy.free != 1000 {
		t.Errorf("got %v, %d left", err, roomy.free)
	}
	tight.free = 1000
	must.Succeed(t, put(t, s, 20))
}
