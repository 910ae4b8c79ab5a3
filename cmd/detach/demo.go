package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nkirchhoffer/detach-mta/cmd/detach/mailbox"
	"github.com/nkirchhoffer/detach-mta/gateway"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/fetch"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

type demoCmd struct {
	Once bool `help:"Download the file again through its link, compare, and exit."`
}

// demoTimeout bounds each step of the demo: a step that hangs ends with an error.
const demoTimeout = time.Minute

// Run sets everything up on this machine, sends a mail through it, and shows what arrives.
func (c *demoCmd) Run(e *env) (err error) {
	ctx, stop := context.WithCancel(e.ctx)
	defer stop()
	d, err := startDemo(ctx, slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	defer func() {
		stop()
		err = errors.Join(err, d.close())
	}()
	picture := drawFern(1600, 1200)
	mail, size, err := d.send(ctx, sampleSubject, sampleName, strings.NewReader(string(picture)))
	if err != nil {
		return fmt.Errorf("send the sample mail: %w", err)
	}
	l, err := detachLink(mail)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "A mail of %s went through Detach, and %s arrived.\n\n", texts.English().Size(size), texts.English().Size(int64(len(mail.Raw))))
	fmt.Fprintf(e.stdout, "  mailbox    http://%s/\n  link       %s\n", d.page.Addr(), l.URL())
	fmt.Fprintf(e.stdout, "  proxy      smtp://%s (send it mail of your own)\n  stored in  %s\n\n", d.app.cfg.Proxy[0].Listen, d.dir)
	if c.Once {
		return d.compare(ctx, e.stdout, l, picture)
	}
	fmt.Fprintln(e.stdout, "Open the mailbox in a browser, and click the link. Ctrl-C ends the demo and deletes everything.")
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.ended:
		return err
	}
}

// demo is a whole installation on loopback: a mailbox behind a proxy, and a gateway to the store.
type demo struct {
	dir     string
	app     *app
	box     *mailbox.Mailbox
	page    net.Listener
	ended   chan error    // why a server ended
	running chan struct{} // closed when proxy and gateway have ended
	closers []io.Closer   // in the order in which they were opened
}

func startDemo(ctx context.Context, log *slog.Logger) (d *demo, err error) {
	d = &demo{ended: make(chan error, 3), running: make(chan struct{})}
	close(d.running)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.dir, err = os.MkdirTemp("", "detach-demo-"); err != nil {
		return d, err
	}
	d.box = mailbox.New(func(ctx context.Context, name string, file io.Reader) error {
		_, _, err := d.send(ctx, "A file of your own", name, file)
		return err
	})
	var free [4]net.Listener // for the mailbox's SMTP and page, the gateway and the proxy
	for i := range free {
		if free[i], err = listen(ctx, "demo", "127.0.0.1:0"); err != nil {
			return d, err
		}
		d.closers = append(d.closers, free[i])
	}
	d.page = free[1]
	cfg := config.Default()
	cfg.DataDir = d.dir
	cfg.Store.MinFree = config.MinFree{} // everything is deleted at the end
	cfg.Gateway.URL = "http://" + free[2].Addr().String()
	p := config.DefaultProxy()
	p.Listen, p.Reinject = free[3].Addr().String(), free[0].Addr().String()
	p.MaxSize = 1 << 40 // not the 25 MiB of the mailbox: the disk is the only limit here
	cfg.Proxy = []config.Proxy{p}
	if d.app, err = openApp(cfg, log); err != nil {
		return d, err
	}
	d.closers = append(d.closers, d.app)
	smtpServer, pageServer := d.box.SMTP(), newHTTP(d.box.Handler(), log)
	d.closers = append(d.closers, smtpServer, pageServer)
	d.running = make(chan struct{})
	go func() { d.ended <- smtpServer.Serve(free[0]) }()
	go func() { d.ended <- pageServer.Serve(free[1]) }()
	go func() {
		defer close(d.running)
		d.ended <- d.app.serve(ctx, listeners{proxy: free[3:], gateway: free[2]}, gateway.Brand{}, log)
	}()
	return d, nil
}

// close waits for the servers to end, and deletes everything. The caller has ended their context.
func (d *demo) close() error {
	<-d.running
	for i := len(d.closers) - 1; i >= 0; i-- {
		_ = d.closers[i].Close() // the servers have closed most of them already
	}
	return os.RemoveAll(d.dir)
}

// send mails a file through the proxy, and waits until the mailbox has the mail.
func (d *demo) send(ctx context.Context, subject, name string, file io.Reader) (*mailbox.Mail, int64, error) {
	id, size, err := sendMail(ctx, d.app.cfg.Proxy[0].Listen, subject, name, file)
	if err != nil {
		return nil, 0, err
	}
	d.box.Sent(id, size)
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	mail, err := d.box.Wait(ctx, id)
	return mail, size, err
}

func detachLink(mail *mailbox.Mail) (link.Link, error) {
	for _, text := range mail.Links() {
		if l, err := link.Parse(text); err == nil {
			return l, nil
		}
	}
	return link.Link{}, errors.New("the mail arrived without a link")
}

// compare downloads the file as its recipient does, and compares it with what was sent.
func (d *demo) compare(ctx context.Context, w io.Writer, l link.Link, want []byte) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	sum := sha256.New()
	began := time.Now()
	meta, err := (fetch.Client{}).Fetch(ctx, l, sum)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	got, sent := [sha256.Size]byte(sum.Sum(nil)), sha256.Sum256(want)
	if got != sent || meta.Name != sampleName {
		return errors.New("the downloaded file is not the one that was sent")
	}
	_, err = fmt.Fprintf(w, "Downloaded through the link, verified and decrypted in %v: %s, %s\n  sent       SHA-256 %x\n  received   SHA-256 %x\n",
		time.Since(began).Round(time.Millisecond), meta.Name, texts.English().Size(meta.Size), sent, got)
	return err
}
