package kubo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// maxPinLine bounds a line of a listing: a CID and a name of at most 255 bytes.
const maxPinLine = 16 << 10

// List implements [ipfs.Store]: it lists the named recursive pins. The node makes the list when it
// is asked, and sends it pin by pin; it holds no lock meanwhile. It could select the names itself,
// but would send nothing while it looks for the next one: among a million pins of other programs
// that takes longer than the idle time.
func (s *Store) List(ctx context.Context, prefix string, yield func(ipfs.Item) error) error {
	watched, watch := s.watch(ctx)
	defer watch.end()
	var stopped error // by yield
	opts := options{"type": "recursive", "names": true, "stream": true}
	err := s.receive(unbounded(watched), "pin/ls", "", opts, nil, func(r io.Reader) error {
		return eachPin(r, prefix, func(i ipfs.Item) error {
			watch.disarm() // the node waits for us
			defer watch.arm()
			stopped = yield(i)
			return stopped
		}, watch.arm)
	})
	if stopped != nil {
		return stopped
	}
	return fail(ctx, watched, "pin/ls", err)
}

// eachPin yields the pins whose names begin with prefix, and calls progress for the others.
func eachPin(r io.Reader, prefix string, yield func(ipfs.Item) error, progress func()) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxPinLine)
	for lines.Scan() {
		var pin struct{ Cid, Name string }
		if err := json.Unmarshal(lines.Bytes(), &pin); err != nil {
			return err
		}
		root, err := cid.Decode(pin.Cid)
		switch {
		case err != nil:
			return fmt.Errorf("the node's answer is not that of pin/ls: %w", err)
		case pin.Name == "" || !strings.HasPrefix(pin.Name, prefix):
			progress()
			continue
		}
		if err := yield(ipfs.Item{Root: root, Name: pin.Name, Size: -1}); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return errTooLong
	}
	return lines.Err()
}

// Rename implements [ipfs.Store]. A node keeps one pin for each object: pinning it again under
// another name renames the pin.
func (s *Store) Rename(ctx context.Context, root cid.Cid, name string) error {
	return s.pin(ctx, root, name)
}
