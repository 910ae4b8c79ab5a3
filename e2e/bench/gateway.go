package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// published is an attachment that was sent through a Detach, with its addresses.
type published struct {
	*stage.Detach
	size int64
	cid  string
	url  string // of the decrypted file, to which the page's button leads
}

// publish starts a Detach and sends a mail through it.
func (l *lab) publish(store string, m letter) published {
	l.Helper()
	box := servers.NewMailbox(l)
	p := published{Detach: l.serve(box.Addr, store), size: m.size}
	l.send(p.Proxy, l.mail(m))
	_, text, _ := bytes.Cut(box.Mails()[0].Data, []byte("\r\n\r\n")) // the header has a link to the original
	links := stage.LinksIn(string(text))
	if len(links) != 1 {
		l.Fatalf("%d links in the delivered mail, want 1", len(links))
	}
	p.cid = links[0].CID
	var err error
	p.url, err = links[0].Ticket(l.Context(), stage.NoRedirects)
	stage.Must(l, err)
	return p
}

// get downloads and discards n bytes, from an offset if it is not negative, and returns the
// seconds.
func (l *lab) get(from string, offset, n int64) float64 {
	l.Helper()
	req, err := http.NewRequestWithContext(l.Context(), http.MethodGet, from, nil)
	stage.Must(l, err)
	want := http.StatusOK
	if offset >= 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+n-1))
		want = http.StatusPartialContent
	}
	buf := make([]byte, 256<<10)
	return seconds(func() {
		resp, err := http.DefaultClient.Do(req)
		stage.Must(l, err)
		defer resp.Body.Close()
		got, err := io.CopyBuffer(plainWriter{io.Discard}, plainReader{resp.Body}, buf)
		if err != nil || got != n || resp.StatusCode != want {
			l.Fatalf("GET: %s, %d bytes, %v, want %d", resp.Status, got, err, n)
		}
	})
}

// whole downloads a whole file and returns MB/s.
func (l *lab) whole(from string, size int64) func() float64 {
	return func() float64 { return rate(size, l.get(from, -1, size)) }
}

const nginxConf = `
daemon off;
worker_processes auto;
pid %[1]s/pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	sendfile on;
	tcp_nopush on;
	server {
		listen %[2]s;
		root %[3]s;
	}
}
`

// nginx starts an nginx that serves a file, and returns the file's address.
func (l *lab) nginx(file string) string {
	l.Helper()
	servers.Need(l, "nginx")
	addr, dir := servers.FreeAddr(l), l.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConf, dir, addr, filepath.Dir(file))
	if os.Geteuid() == 0 {
		text = "user root;\n" + text // other users may not read our directories
	}
	stage.Must(l, os.WriteFile(config, []byte(text), 0o644))
	l.run(addr, "nginx", "-p", dir, "-c", config)
	return "http://" + addr + "/" + filepath.Base(file)
}

// gatewayEmbedded: the decrypted file from our gateway, each block verified, and the plaintext from
// nginx by sendfile. Both files are in the page cache.
func gatewayEmbedded(l *lab) contest {
	m := newLetter(l.size.big)
	p := l.publish(embedded, m)
	return contest{ours: l.whole(p.url, p.size), theirs: l.whole(l.nginx(l.plain(m)), p.size), detach: p.Detach}
}

// gatewayKubo: the decrypted file from our gateway, each block verified, and the ciphertext from
// the node's, which verifies nothing.
func gatewayKubo(l *lab) contest {
	p := l.publish(kubo, newLetter(l.size.big))
	return contest{ours: l.whole(p.url, p.size), theirs: l.whole(l.node.Gateway()+"/ipfs/"+p.cid+"/data", p.size), detach: p.Detach}
}

// rangeTime: many requests for 64 KiB, at random places in the middle third of a large file. The
// 95th percentile, in ms.
func rangeTime(store string) func(*lab) contest {
	return func(l *lab) contest {
		p := l.publish(store, newLetter(l.size.huge))
		const n = 64 << 10
		return contest{
			ours: func() float64 {
				var times []float64
				for range l.size.requests {
					offset := p.size/3 + rand.Int64N(p.size/3-n)
					times = append(times, 1000*l.get(p.url, offset, n))
				}
				return percentile(times, 95)
			},
			detach: p.Detach,
		}
	}
}
