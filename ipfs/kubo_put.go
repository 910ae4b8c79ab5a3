package ipfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/boxo/files"
	"github.com/ipfs/go-cid"
)

var (
	errAborted  = errors.New("object abandoned")
	errAnswered = errors.New("the node answered before it had the whole object")
)

// Put implements Store. The blocks go into dag/import as they are made, under a root that stands
// for nothing; the node checks each of them. Only when build has returned and the node has counted
// as many blocks as we sent does a second request pin the root, which makes the node walk the
// whole DAG. So whatever ends early (the source, the node, the connection, we) leaves at most
// blocks that nothing refers to, and the node's next garbage collection takes them.
func (k *Kubo) Put(ctx context.Context, name string, build func(add AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	u, err := k.startImport(ctx)
	if err != nil {
		return cid.Undef, err
	}
	defer u.abort()
	root, err := build(u.add)
	if err != nil {
		return cid.Undef, err
	}
	if err := u.finish(root); err != nil {
		return cid.Undef, err
	}
	if err := k.pin(ctx, root, name); err != nil {
		return cid.Undef, k.unpin(ctx, root, err)
	}
	return root, nil
}

// unpin follows a pin that failed with cause: the node may have pinned and only its answer be lost.
func (k *Kubo) unpin(ctx context.Context, root cid.Cid, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := k.Delete(ctx, root); err != nil {
		return fmt.Errorf("%w; object %s may be pinned: %v", cause, root, err)
	}
	return cause
}

// upload is one dag/import under way: we write the CAR into a pipe, and a goroutine sends what
// comes out of it and reads the node's answer.
type upload struct {
	ctx     context.Context // the caller's
	watched context.Context
	watch   *watch // armed only while we wait for the node, not while it waits for us

	pw   *io.PipeWriter
	car  *carWriter
	done chan struct{} // closed when the answer is in
	err  error         // the outcome: of the request once done is closed
	got  importStats
}

// importStats is what the node says it has taken.
type importStats struct {
	BlockCount, BlockBytesCount uint64
}

// startImport returns when the request is under way: when the node cannot be reached, nothing is
// read from any source.
func (k *Kubo) startImport(ctx context.Context) (*upload, error) {
	pr, pw := io.Pipe()
	u := &upload{ctx: ctx, pw: pw, car: newCARWriter(pw), done: make(chan struct{})}
	u.watched, u.watch = k.watch(ctx)
	// The end of the context must break the pipe as well: the client does not return from a
	// request whose body is blocked in a Read (golang.org/issue/78555).
	stop := context.AfterFunc(u.watched, func() { pr.CloseWithError(context.Cause(u.watched)) })
	go func() {
		defer close(u.done)
		defer stop()
		u.err = k.sendImport(u.watched, pr, &u.got)
		// An answer may come at any time, such as that the disk is full. It ends the upload.
		pr.CloseWithError(errAnswered)
	}()
	_, err := pw.Write(carHeader(noRoot))
	u.watch.disarm()
	if err != nil {
		defer u.abort()
		return nil, u.failure(err)
	}
	return u, nil
}

func (k *Kubo) sendImport(ctx context.Context, car io.Reader, got *importStats) error {
	req := k.api.Request("dag/import").
		Option("pin-roots", false).
		Option("fast-provide-root", false). // the root in the header stands for nothing
		Option("stats", true).
		// Not FileBody, which would first ask for the node's version, and not stop for ctx.
		Body(files.NewMultiFileReader(files.NewMapDirectory(map[string]files.Node{
			"": files.NewReaderFile(car),
		}), false, false))
	return receive(ctx, req, func(r io.Reader) error {
		return each(r, func(line struct{ Stats *importStats }) error {
			if line.Stats == nil || *got != (importStats{}) {
				return errors.New("the node's answer is not that of dag/import")
			}
			*got = *line.Stats
			return nil
		})
	})
}

// add sends a block. It returns when the connection has taken it.
func (u *upload) add(b Block) error {
	if err := checkBlock(b); err != nil {
		u.pw.CloseWithError(errAborted)
		return err
	}
	u.watch.arm()
	err := u.car.write(b)
	u.watch.disarm()
	if err != nil {
		return u.failure(err)
	}
	return nil
}

// finish ends the CAR and waits for the node's answer.
func (u *upload) finish(root cid.Cid) error {
	if err := checkRoot(u.car, root); err != nil {
		return err
	}
	u.watch.arm()
	u.pw.Close()
	<-u.done
	want := importStats{u.car.blocks, u.car.bytes}
	if u.err == nil && u.got != want {
		u.err = fmt.Errorf("the node took %d of %d blocks", u.got.BlockCount, want.BlockCount)
	}
	return fail(u.ctx, u.watched, "dag/import", u.err)
}

// abort ends an upload that is not finished. The source has failed, so the request must break off:
// if its body ended, the node could not tell a part from the whole.
func (u *upload) abort() {
	u.pw.CloseWithError(errAborted)
	u.watch.end()
	<-u.done
}

// failure waits for the reason why the pipe is broken: it is closed just before the outcome is known.
func (u *upload) failure(err error) error {
	u.pw.CloseWithError(errAborted)
	<-u.done
	if u.err != nil && !errors.Is(u.err, errAborted) {
		err = u.err
	}
	return fail(u.ctx, u.watched, "dag/import", err)
}

// pin pins a DAG recursively, which fails if a block of it is missing. It may take a while, for
// the node reads everything; progress is a growing number of blocks, not just more lines.
func (k *Kubo) pin(ctx context.Context, root cid.Cid, name string) error {
	watched, watch := k.watch(ctx)
	defer watch.end()
	req := k.api.Request("pin/add", root.String()).
		Option("name", name).
		Option("recursive", true).
		Option("offline", true).
		Option("progress", true)
	pinned, blocks := 0, 0
	err := receive(watched, req, func(r io.Reader) error {
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
					return errors.New("the node pinned something else")
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

// each calls f for every JSON value up to the end of an answer.
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
