package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/export"
	"github.com/nkirchhoffer/detach-mta/internal/fetch"
	"github.com/nkirchhoffer/detach-mta/internal/fetch/output"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/progress"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
)

type getCmd struct {
	Output    string   `short:"o" placeholder:"FILE" help:"Where to write: a file (replaced if it exists), a directory, or - for standard output. Default: the file's own name, here, and never over another."`
	Store     string   `placeholder:"DIR" xor:"store" help:"Take the ciphertext from the embedded store in DIR, a data_dir or its objects folder, and not from the link's gateway. With a data_dir its keyring is used too, and no gateway is asked at all."`
	API       string   `name:"api" placeholder:"ADDR" xor:"store" help:"Take the ciphertext from the kubo node whose RPC is at ADDR: /ip4/127.0.0.1/tcp/5001, /unix/PATH, http(s)://HOST:PORT."`
	TokenFile string   `placeholder:"FILE" help:"A file with the secret of the node's API.Authorizations, as in the configuration."`
	Keys      string   `placeholder:"DIR" help:"Take the gateway's half of the key from the keyring in DIR."`
	Identity  []string `short:"i" placeholder:"FILE" help:"Open the file by the key that is escrowed in it, for this age identity. Needs --store or --api, and of the link only the CID."`
	Link      string   `arg:"" help:"The link, as in the mail. Put it in quotes."`
}

// Run downloads what a link names: a file, a whole message, or all files of a mail as a ZIP.
func (c *getCmd) Run(e *env) error {
	l, err := c.link()
	if err != nil {
		return usageError{err}
	}
	client, err := c.client()
	if err != nil {
		return usageError{err}
	}
	defer client.Close()
	o, err := client.Open(e.ctx, l)
	if err != nil {
		return err
	}
	defer o.Close()
	if end := o.Meta.Expires; len(c.Identity) > 0 && !end.IsZero() && !time.Now().Before(end) {
		fmt.Fprintf(e.stderr, "the links to this file ended on %s\n", texts.LastDay(end).Format(time.DateOnly))
	}
	switch o.Meta.Type {
	case skeleton.Type:
		return c.original(e, o)
	case filelist.Type:
		return c.zip(e, o)
	}
	return c.file(e, o)
}

// link returns the object to open. An escrow needs no fragment.
func (c *getCmd) link() (link.Link, error) {
	if len(c.Identity) == 0 {
		l, err := link.Parse(c.Link)
		if err != nil {
			return l, linkError(err)
		}
		return l, nil
	}
	cids := link.FindCIDs(c.Link)
	if len(cids) != 1 {
		return link.Link{}, errors.New("name one file by its CID, bafybei…, or by its link")
	}
	return link.Link{CID: cids[0]}, nil
}

// linkError says what is wrong with a link, and what to do.
func linkError(err error) error {
	switch {
	case errors.Is(err, link.ErrIncomplete):
		return errors.New("the link is incomplete: copy all of it, to the last letter after #, and put it in quotes")
	case errors.Is(err, link.ErrReplaced):
		return errors.New("this link leads to something else: if a mail system has replaced the link, only its server knows where it leads; " +
			"open the link in a browser, and copy the address of the page that it leads to")
	}
	return errors.New("this is not a link to a detached file: it looks like https://HOST/bafy…#z…")
}

// file downloads one file, and continues an earlier attempt.
func (c *getCmd) file(e *env, o *fetch.Object) error {
	out, err := output.Create(c.Output, filename.Clean(o.Meta.Name), o.Link.CID, e.stdout)
	if err != nil {
		return err
	}
	sum, err := c.download(e, o, out)
	useful := sum.N
	if fetch.Final(err) {
		useful = 0
	}
	said := fmt.Sprintf("%s, checked against SHA-256 %x", texts.English().Size(o.Meta.Size), o.Meta.SHA256)
	return finish(e, out, err, useful, said)
}

// download writes the rest of the file after what out has of it.
func (c *getCmd) download(e *env, o *fetch.Object, out *output.File) (*fetch.Sum, error) {
	sum := fetch.NewSum()
	err := out.Resume(sum, o.Meta.Size)
	if errors.Is(err, output.ErrLonger) {
		fmt.Fprintf(e.stderr, "%s: starting again from the beginning\n", plain(err.Error()))
		err = out.Restart()
	}
	if err != nil {
		return sum, err
	}
	resumed := sum.N > 0
	if resumed {
		fmt.Fprintf(e.stderr, "resuming after the first %s\n", texts.English().Size(sum.N))
	}
	attempt := func() error {
		return watched(e, out, sum.N, o.Meta.Size, func(w io.Writer) error { return o.Copy(e.ctx, w, sum) })
	}
	err = attempt()
	if resumed && errors.Is(err, fetch.ErrOtherSum) {
		// Every byte that arrived was verified, so the partial file was of another file.
		fmt.Fprintln(e.stderr, "the partial file is not the beginning of this file: starting again from the beginning")
		if err = out.Restart(); err == nil {
			sum = fetch.NewSum()
			err = attempt()
		}
	}
	return sum, err
}

// original downloads the whole message that a skeleton and its attachments make.
func (c *getCmd) original(e *env, o *fetch.Object) error {
	m, err := o.Original(e.ctx)
	if err != nil {
		return err
	}
	return c.assembly(e, o, m, skeleton.Name, "the whole original message")
}

// zip downloads the files of a file list.
func (c *getCmd) zip(e *env, o *fetch.Object) error {
	zip, err := o.ZIP(e.ctx)
	if err != nil {
		return err
	}
	said := fmt.Sprintf("%d files of %d, each checked against its SHA-256", zip.Files, zip.Listed)
	return c.assembly(e, o, zip, filelist.Name, said)
}

// assembly writes a file that is put together here. It always starts from the beginning.
func (c *getCmd) assembly(e *env, o *fetch.Object, a *fetch.Assembly, name, said string) (err error) {
	defer func() { err = errors.Join(err, a.Close()) }()
	out, err := output.Create(c.Output, name, o.Link.CID, e.stdout)
	if err != nil {
		return err
	}
	if err = out.Restart(); err == nil {
		err = watched(e, out, 0, a.Size, a.Copy)
	}
	return finish(e, out, err, 0, said)
}

// watched runs a download and shows its progress.
func watched(e *env, out io.Writer, done, total int64, run func(io.Writer) error) error {
	bar := progress.New(e.stderr, done, total)
	defer bar.Clear()
	return run(io.MultiWriter(out, bar))
}

// finish ends a download, and says what it has brought unless it was written to a stream.
func finish(e *env, out *output.File, err error, useful int64, said string) error {
	if err = out.Finish(err, useful); err != nil || out.Path == "" {
		return err
	}
	_, err = fmt.Fprintf(e.stderr, "%s: %s\n", plain(out.Path), said)
	return err
}

// client opens what the flags name. It changes nothing in store and keyring: another user's process
// may be writing there.
func (c *getCmd) client() (client fetch.Client, err error) {
	objects, keys := folders(c.Store)
	if c.Keys != "" {
		keys = c.Keys
	}
	if client.Escrow, err = c.escrow(); err != nil {
		return client, err
	}
	if client.Store, err = c.openStore(objects); err != nil || keys == "" {
		return client, err
	}
	if client.Keys, err = openKeys(keys); err != nil {
		return client, errors.Join(fmt.Errorf("--keys: %w", err), client.Close())
	}
	return client, nil
}

// escrow returns what opens escrowed keys, or nil.
func (c *getCmd) escrow() (all []age.Identity, err error) {
	for _, path := range c.Identity {
		if c.Store == "" && c.API == "" {
			return nil, errors.New("--identity: an escrowed key is in the stored object: name the store, --store DIR or --api ADDR")
		}
		some, err := export.ReadIdentities(path)
		if err != nil {
			return nil, fmt.Errorf("--identity: %w", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// folders returns where --store has its objects and its keyring. The flag may name a data_dir,
// which has both, or the objects alone.
func folders(dir string) (objects, keys string) {
	objects, keys = filepath.Join(dir, "objects"), filepath.Join(dir, "keys")
	if dir == "" || !isDir(objects) {
		return dir, ""
	}
	if !isDir(keys) {
		return objects, ""
	}
	return objects, keys
}

// openStore returns nil if the flags name no store: then the gateway is asked.
func (c *getCmd) openStore(objects string) (store ipfs.Store, err error) {
	flag := "--store"
	switch {
	case c.API != "":
		node := &config.Kubo{API: c.API, TokenFile: c.TokenFile}
		if _, err = node.Token(); err != nil {
			flag = "--token-file"
			break
		}
		flag = "--api"
		store, err = kubo.New(kubo.Config{API: c.API, Token: node.Token})
	case objects == "":
		return nil, nil
	case !isDir(objects):
		err = fmt.Errorf("%s is not a directory, or does not exist: name a data_dir, or its objects folder", objects)
	default:
		store, err = embedded.OpenReadOnly(objects)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return store, nil
}

func openKeys(dir string) (*keyring.Keyring, error) {
	if !isDir(dir) {
		return nil, fmt.Errorf("%s is not a directory, or does not exist: name the keys folder of a data_dir", dir)
	}
	return keyring.Read(dir)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
