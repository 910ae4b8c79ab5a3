package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// detach is `detach serve`, proxy and gateway, with one configuration through all its lives.
type detach struct {
	bin, config, log string
	dataDir, tmp     string
	url              string // of the gateway

	st       *stage
	cmd      *exec.Cmd
	exited   chan error  // what the process ended with
	expected atomic.Bool // that it ends now
}

// newDetach writes the configuration.
func newDetach(st *stage, bin, listen, reinject, store string) *detach {
	gateway := servers.FreeAddr(st)
	d := &detach{
		st:      st,
		bin:     bin,
		config:  filepath.Join(st.dir, "detach.toml"),
		log:     filepath.Join(st.dir, "detach.log"),
		dataDir: filepath.Join(st.dir, "data"),
		tmp:     filepath.Join(st.dir, "tmp"),
		url:     "http://" + gateway,
	}
	text := fmt.Sprintf(`data_dir = %q
[[proxy]]
listen = %q
reinject = %q
max_size = "64MiB"
[store]
%s
[gateway]
listen = %q
url = %q
[admin]
listen = ""
`, d.dataDir, listen, reinject, store, gateway, d.url)
	if err := errors.Join(os.Mkdir(d.tmp, 0o700), os.WriteFile(d.config, []byte(text), 0o600)); err != nil {
		st.Fatal(err)
	}
	return d
}

// start starts it and waits until it listens.
func (d *detach) start() {
	log, err := os.OpenFile(d.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		d.st.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(d.bin, "serve", "--config", d.config)
	cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp)
	cmd.Stdout, cmd.Stderr = log, log
	d.expected.Store(false)
	if err := cmd.Start(); err != nil {
		d.st.Fatal(err)
	}
	exited := make(chan error, 1)
	d.cmd, d.exited = cmd, exited
	go func() {
		err := cmd.Wait()
		if !d.expected.Load() && d.st.Context().Err() == nil {
			d.st.Errorf("Detach has ended by itself: %v", err)
			d.st.stop(errFatal)
		}
		exited <- err
	}()
	servers.Eventually(d.st, time.Minute, "Detach to listen", func() bool {
		resp, err := http.Get(d.url + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil || d.st.Context().Err() != nil
	})
}

// longestDrain is more than Detach takes for its mails in flight after SIGTERM.
const longestDrain = 70 * time.Second

// terminate ends it as an administrator does.
func (d *detach) terminate() {
	if err := d.signal(syscall.SIGTERM); err != nil {
		d.st.Errorf("Detach ended with %v when it was asked to, want exit code 0", err)
	}
}

// kill ends it as a crash does.
func (d *detach) kill() { d.signal(syscall.SIGKILL) }

// signal ends it, and returns what it ended with.
func (d *detach) signal(sig os.Signal) error {
	d.expected.Store(true)
	d.cmd.Process.Signal(sig)
	select {
	case err := <-d.exited:
		d.cmd = nil
		return err
	case <-time.After(longestDrain):
		d.cmd.Process.Kill()
		<-d.exited
		d.cmd = nil
		return fmt.Errorf("nothing within %v", longestDrain)
	}
}

func (d *detach) freeze() { d.cmd.Process.Signal(syscall.SIGSTOP) }
func (d *detach) thaw()   { d.cmd.Process.Signal(syscall.SIGCONT) }

// end ends it if it runs. The last life ends politely, too.
func (d *detach) end() {
	if d.cmd == nil {
		return
	}
	if d.st.Context().Err() != nil {
		d.kill()
		return
	}
	d.terminate()
}
