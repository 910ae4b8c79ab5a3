package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

type getCmd struct {
	Output    string `short:"o" placeholder:"FILE" help:"Where to write: a file (replaced if it exists), a directory, or - for standard output. Default: the file's own name, here, and never over another."`
	Store     string `placeholder:"DIR" xor:"store" help:"Take the ciphertext from the embedded store in DIR, a data_dir or its objects folder, and not from the link's gateway. With a data_dir its keyring is used too, and no gateway is asked at all."`
	API       string `name:"api" placeholder:"ADDR" xor:"store" help:"Take the ciphertext from the kubo node with its RPC there: /ip4/127.0.0.1/tcp/5001, /unix/PATH, http(s)://HOST:PORT."`
	TokenFile string `placeholder:"FILE" help:"What the node's API.Authorizations asks for, as in the configuration."`
	Keys      string `placeholder:"DIR" help:"Take the gateway's half of the key from the keyring in DIR."`
	Link      string `arg:"" help:"The link, as it stands in the mail. Put it in quotes."`
}

// Run downloads what a link names. Only verified bytes are written, and only what is whole gets its name.
func (c *getCmd) Run(e *env) error {
	l, err := link.Parse(c.Link)
	if errors.Is(err, link.ErrIncomplete) {
		return usageError{errors.New("the link is incomplete: copy all of it, to the last letter after #, and put it in quotes")}
	}
	if err != nil {
		return usageError{errors.New("this is no link to a detached file: it looks like https://HOST/bafy…#z…")}
	}
	f, err := c.fetcher()
	if err != nil {
		return usageError{err}
	}
	defer f.close()
	r, err := f.open(e.ctx, l)
	if err != nil {
		return err
	}
	defer r.close()
	switch r.meta.Type {
	case skeleton.Type:
		return c.original(e, r)
	case filelist.Type:
		return c.all(e, r)
	}
	return c.file(e, r)
}

// file downloads one file, and goes on where an earlier attempt ended.
func (c *getCmd) file(e *env, r *remote) error {
	out, err := create(c.Output, filename.Clean(r.meta.Name), r.link.CID, e.stdout)
	if err != nil {
		return err
	}
	sum := newSum()
	err = out.resume(sum, r.meta.Size)
	if errors.Is(err, errLonger) {
		fmt.Fprintf(e.stderr, "%v: beginning anew\n", err)
		err = out.restart()
	}
	if err != nil {
		return out.finish(err, sum.n)
	}
	if sum.n > 0 {
		fmt.Fprintf(e.stderr, "going on after the first %s, which are there\n", bytesOf(sum.n))
	}
	began := sum.n
	err = c.watched(e, out, sum.n, r.meta.Size, func(w io.Writer) error { return r.copy(e.ctx, w, sum) })
	if errors.Is(err, errOtherSum) && began > 0 {
		// Every byte that came was verified. So what was there is of another file.
		fmt.Fprintln(e.stderr, "what was there is not the beginning of this file: beginning anew")
		if err = out.restart(); err == nil {
			sum = newSum()
			err = c.watched(e, out, 0, r.meta.Size, func(w io.Writer) error { return r.copy(e.ctx, w, sum) })
		}
	}
	if err = out.finish(err, sum.n); err != nil || out.path == "" {
		return err
	}
	_, err = fmt.Fprintf(e.stderr, "%s: %s, checked against SHA-256 %x\n", plain(out.path), bytesOf(r.meta.Size), r.meta.SHA256)
	return err
}

// original downloads the whole message that a skeleton and its attachments make.
func (c *getCmd) original(e *env, r *remote) (err error) {
	bones := spool.New("")
	defer func() { err = errors.Join(err, bones.Close()) }()
	if err := r.copy(e.ctx, bones, newSum()); err != nil {
		return err
	}
	m, err := skeleton.Open(bones.Section(0, bones.Size()))
	if err != nil {
		return err
	}
	out, err := create(c.Output, skeleton.Name, r.link.CID, e.stdout)
	if err != nil {
		return err
	}
	if err := out.restart(); err != nil {
		return out.finish(err, 0)
	}
	err = c.watched(e, out, 0, m.Size(), func(w io.Writer) error { return m.Restore(e.ctx, w, r.part) })
	if err = out.finish(err, 0); err != nil || out.path == "" {
		return err
	}
	_, err = fmt.Fprintf(e.stderr, "%s: the whole original message\n", plain(out.path))
	return err
}

// part opens an attachment of a message, or a file of its list, at the message's own gateway.
func (r *remote) part(ctx context.Context, l link.Link) (io.ReadCloser, error) {
	if l.Base != r.link.Base {
		return nil, errors.New("a file of the message is said to be at another gateway")
	}
	in, pipe := io.Pipe()
	go func() {
		_, err := r.fetch(ctx, l, pipe)
		pipe.CloseWithError(err)
	}()
	return in, nil
}

// watched runs a download with its progress shown.
func (c *getCmd) watched(e *env, out *output, done, total int64, run func(io.Writer) error) error {
	bar := newProgress(e.stderr, done, total)
	defer bar.clear()
	return run(io.MultiWriter(out, bar))
}

// fetcher opens what the flags name. Store and keyring may be another user's, who is writing there, or a copy: nothing in them changes.
func (c *getCmd) fetcher() (f fetcher, err error) {
	keys := c.Keys
	switch {
	case c.Store != "":
		dir := c.Store
		if objects := filepath.Join(dir, "objects"); isDir(objects) {
			if dir = objects; keys == "" && isDir(filepath.Join(c.Store, "keys")) {
				keys = filepath.Join(c.Store, "keys")
			}
		}
		if !isDir(dir) {
			return f, fmt.Errorf("--store: %s is no directory, or not there: name a data_dir, or its objects folder", c.Store)
		}
		if f.store, err = ipfs.ReadEmbedded(dir); err != nil {
			return f, fmt.Errorf("--store: %w", err)
		}
	case c.API != "":
		token, err := (&config.Store{TokenFile: c.TokenFile}).Token()
		if err != nil {
			return f, fmt.Errorf("--token-file: %w", err)
		}
		if f.store, err = ipfs.NewKubo(ipfs.KuboConfig{API: c.API, Token: token}); err != nil {
			return f, fmt.Errorf("--api: %w", err)
		}
	}
	if keys == "" {
		return f, nil
	}
	if !isDir(keys) {
		return f, errors.Join(fmt.Errorf("--keys: %s is no directory, or not there: name the keys folder of a data_dir", keys), f.close())
	}
	if f.keys, err = crypto.ReadKeyring(keys); err != nil {
		return f, errors.Join(fmt.Errorf("--keys: %w", err), f.close())
	}
	return f, nil
}

func (f fetcher) close() error {
	if f.store == nil {
		return nil
	}
	return f.store.Close()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
