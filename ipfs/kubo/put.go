package kubo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

var (
	errAborted  = errors.New("object abandoned")
	errAnswered = errors.New("the node answered before it had the whole object")
)

// Put implements [ipfs.Store]. It sends the blocks to dag/import as they are made, under a
// placeholder root; the node checks each block. When build has returned and the node has counted as
// many blocks as we sent, a second request pins the root, which makes the node walk the whole DAG.
// So an early end (of the source, the node, the connection, or this process) leaves only
// unreferenced blocks, and the node's next garbage collection removes them.
func (s *Store) Put(ctx context.Context, name string, build func(add ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	imp, err := s.startImport(ctx)
	if err != nil {
		return cid.Undef, err
	}
	defer imp.abort()
	root, err := build(imp.add)
	if err != nil {
		return cid.Undef, err
	}
	if err := imp.finish(root); err != nil {
		return cid.Undef, err
	}
	if err := s.pin(ctx, root, name); err != nil {
		return cid.Undef, s.unpin(ctx, root, err)
	}
	return root, nil
}

// unpin undoes a pin that failed with cause: the node may have pinned although its answer was lost.
func (s *Store) unpin(ctx context.Context, root cid.Cid, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := s.Delete(ctx, root); err != nil {
		return fmt.Errorf("%w; object %s may be pinned: %v", cause, root, err)
	}
	return cause
}

// imported is one dag/import under way: we write the CAR into a pipe, and a goroutine sends it from
// there and reads the node's answer.
type imported struct {
	ctx     context.Context // the caller's
	watched context.Context
	watch   *watch // armed while we wait for the node, disarmed while the node waits for us

	pw   *io.PipeWriter
	car  *ipfs.CARWriter
	done chan struct{} // closed when err and got are set
	err  error         // the outcome of the request
	got  importStats
}

// importStats are the node's counts of the imported blocks and their bytes.
type importStats struct {
	BlockCount, BlockBytesCount uint64
}

// startImport returns when the request is under way: if the node cannot be reached, Put does not
// call build.
func (s *Store) startImport(ctx context.Context) (*imported, error) {
	pr, pw := io.Pipe()
	imp := &imported{ctx: ctx, pw: pw, car: ipfs.NewCARWriter(pw), done: make(chan struct{})}
	imp.watched, imp.watch = s.watch(ctx)
	// The end of the context must break the pipe as well: the HTTP client does not return from a
	// request whose body is blocked in a Read (golang.org/issue/78555).
	stop := context.AfterFunc(imp.watched, func() { pr.CloseWithError(context.Cause(imp.watched)) })
	go func() {
		defer close(imp.done)
		defer stop()
		imp.err = s.sendImport(imp.watched, pr, &imp.got)
		// An early answer, like "no space left on device", ends the upload.
		pr.CloseWithError(errAnswered)
	}()
	err := imp.car.WriteHeader()
	imp.watch.disarm()
	if err != nil {
		defer imp.abort()
		return nil, imp.failure(err)
	}
	return imp, nil
}

func (s *Store) sendImport(ctx context.Context, car io.Reader, got *importStats) error {
	opts := options{
		"pin-roots":         false,
		"fast-provide-root": false, // the root in the header is a placeholder
		"stats":             true,
	}
	body, err := newUpload(car)
	if err != nil {
		return err
	}
	return s.receive(ctx, "dag/import", "", opts, body, func(r io.Reader) error {
		return each(r, func(line struct{ Stats *importStats }) error {
			if line.Stats == nil || *got != (importStats{}) {
				return errors.New("the node's answer is not that of dag/import")
			}
			*got = *line.Stats
			return nil
		})
	})
}

// upload is the multipart body of a request, with one file.
type upload struct {
	io.Reader
	contentType string
}

func newUpload(file io.Reader) (*upload, error) {
	var frame strings.Builder
	w := multipart.NewWriter(&frame)
	if _, err := w.CreateFormFile("file", "car"); err != nil {
		return nil, err
	}
	head := frame.Len()
	if err := w.Close(); err != nil {
		return nil, err
	}
	before, after := frame.String()[:head], frame.String()[head:]
	return &upload{io.MultiReader(strings.NewReader(before), file, strings.NewReader(after)), w.FormDataContentType()}, nil
}

// add sends a block. It returns when the HTTP client has read it.
func (imp *imported) add(b ipfs.Block) error {
	if err := ipfs.CheckBlock(b); err != nil {
		imp.pw.CloseWithError(errAborted)
		return err
	}
	imp.watch.arm()
	err := imp.car.Write(b)
	imp.watch.disarm()
	if err != nil {
		return imp.failure(err)
	}
	return nil
}

// finish ends the CAR and waits for the node's answer.
func (imp *imported) finish(root cid.Cid) error {
	if err := imp.car.CheckRoot(root); err != nil {
		return err
	}
	imp.watch.arm()
	imp.pw.Close()
	<-imp.done
	want := importStats{imp.car.Count, imp.car.Size}
	if imp.err == nil && imp.got != want {
		imp.err = fmt.Errorf("the node took %d of %d blocks", imp.got.BlockCount, want.BlockCount)
	}
	return fail(imp.ctx, imp.watched, "dag/import", imp.err)
}

// abort breaks off an import that is not finished: if the body ended regularly, the node would take
// the part for a whole.
func (imp *imported) abort() {
	imp.pw.CloseWithError(errAborted)
	imp.watch.end()
	<-imp.done
}

// failure returns the reason why a write to the pipe failed with err. It waits for the outcome of
// the request, which is known just after the pipe is closed.
func (imp *imported) failure(err error) error {
	imp.pw.CloseWithError(errAborted)
	<-imp.done
	if imp.err != nil && !errors.Is(imp.err, errAborted) {
		err = imp.err
	}
	return fail(imp.ctx, imp.watched, "dag/import", err)
}

// pin pins a DAG recursively, which fails if a block of it is missing. The node reads all blocks,
// which may take a while. Only a growing number of blocks counts as progress, not another line.
func (s *Store) pin(ctx context.Context, root cid.Cid, name string) error {
	watched, watch := s.watch(ctx)
	defer watch.end()
	opts := options{"name": name, "recursive": true, "offline": true, "progress": true}
	pinned, blocks := 0, 0
	err := s.receive(watched, "pin/add", root.String(), opts, nil, func(r io.Reader) error {
		return each(r, func(line struct {
			Pins     []string
			Progress int
		}) error {
			if line.Progress > blocks {
				blocks = line.Progress
				watch.arm()
			}
			for _, p := range line.Pins {
				if p != root.String() {
					return errors.New("the node pinned another object")
				}
				pinned++
			}
			return nil
		})
	})
	if err == nil && pinned != 1 {
		err = errors.New("the node does not say that it pinned")
	}
	return fail(ctx, watched, "pin/add", err)
}

// each calls f for every JSON value of an answer.
func each[T any](r io.Reader, f func(T) error) error {
	dec := json.NewDecoder(r)
	for {
		var line T
		if err := dec.Decode(&line); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := f(line); err != nil {
			return err
		}
	}
}
