package servers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// KuboNode is a real IPFS node with an empty repository of its own, on loopback, that talks to no
// other node.
type KuboNode struct {
	Bin  string // the ipfs command
	Repo string // its IPFS_PATH

	t       T
	addr    string
	gateway string
	cmd     *exec.Cmd
	drained chan struct{} // closed when the daemon's output has ended
}

// Kubo starts a node, which is stopped when the test ends. If kubo is missing and cannot be built,
// the test is skipped, or fails if CI is set.
func Kubo(t T) *KuboNode {
	t.Helper()
	bin, err := KuboBinary()
	if err != nil {
		Missing(t, fmt.Sprintf("an IPFS node: %v", err))
	}
	n := &KuboNode{Bin: bin, Repo: filepath.Join(t.TempDir(), "ipfs"), t: t, addr: FreeAddr(t), gateway: FreeAddr(t)}
	n.Run("init", "--profile=test")
	// Fixed ports, so that the addresses outlive a restart.
	n.Run("config", "Addresses.API", Multiaddr(n.addr))
	n.Run("config", "Addresses.Gateway", Multiaddr(n.gateway))
	n.Start()
	t.Cleanup(n.Stop)
	return n
}

// API returns the address of the node's RPC, as Detach's configuration takes it.
func (n *KuboNode) API() string { return Multiaddr(n.addr) }

// Multiaddr writes host:port as IPFS does.
func Multiaddr(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	return "/ip4/" + host + "/tcp/" + port
}

// URL returns the base of the node's RPC: http://HOST:PORT.
func (n *KuboNode) URL() string { return "http://" + n.addr }

// Gateway returns the base of the node's own gateway: http://HOST:PORT.
func (n *KuboNode) Gateway() string { return "http://" + n.gateway }

// Start starts the daemon and waits until it is ready. The daemon must not be running.
func (n *KuboNode) Start() {
	n.t.Helper()
	out, w := io.Pipe()
	n.cmd = n.command("daemon", "--offline")
	n.cmd.Stdout, n.cmd.Stderr = w, w
	if err := n.cmd.Start(); err != nil {
		n.t.Fatalf("start ipfs daemon: %v", err)
	}
	n.drained = make(chan struct{})
	ready := make(chan bool, 1)
	var log strings.Builder
	go func(drained chan struct{}) {
		defer close(drained)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "Daemon is ready") {
				ready <- true
				break
			}
			fmt.Fprintln(&log, lines.Text())
		}
		ready <- false
		io.Copy(io.Discard, out)
	}(n.drained)
	go func(cmd *exec.Cmd) {
		cmd.Wait()
		w.Close()
	}(n.cmd)
	select {
	case ok := <-ready:
		if !ok {
			n.t.Fatalf("ipfs daemon did not start:\n%s", log.String())
		}
	case <-time.After(Patience):
		n.t.Fatal("ipfs daemon is not ready")
	}
}

// Stop ends the daemon as an operator does. It can be started again.
func (n *KuboNode) Stop() { n.end(syscall.SIGTERM) }

// Kill ends the daemon as a crash does. It can be started again.
func (n *KuboNode) Kill() { n.end(syscall.SIGKILL) }

// Freeze stops the daemon until Thaw. Its connections stay open.
func (n *KuboNode) Freeze() { n.signal(syscall.SIGSTOP) }

// Thaw lets the daemon go on.
func (n *KuboNode) Thaw() { n.signal(syscall.SIGCONT) }

func (n *KuboNode) signal(sig os.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(sig); err != nil {
		n.t.Errorf("%v to the ipfs daemon: %v", sig, err)
	}
}

func (n *KuboNode) end(sig os.Signal) {
	n.t.Helper()
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(sig) // it may have ended already
	select {
	case <-n.drained:
	case <-time.After(Patience):
		_ = n.cmd.Process.Kill()
		n.t.Error("ipfs daemon does not stop")
	}
	n.cmd = nil
}

// Run runs an ipfs command, through the daemon if it runs, and returns what it prints.
func (n *KuboNode) Run(args ...string) string {
	n.t.Helper()
	return n.RunInput(nil, args...)
}

// RunInput is Run with a standard input.
func (n *KuboNode) RunInput(stdin io.Reader, args ...string) string {
	n.t.Helper()
	cmd := n.command(args...)
	cmd.Stdin = stdin
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		n.t.Fatalf("ipfs %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// Pins returns the node's recursive pins, "CID name". A new node has one, for its empty directory.
func (n *KuboNode) Pins() []string {
	n.t.Helper()
	var pins []string
	for _, line := range strings.Split(n.Run("pin", "ls", "--type=recursive", "--names"), "\n") {
		// CID, "recursive", and the name, if it has one.
		if f := strings.SplitN(line, " ", 3); len(f) > 1 {
			pins = append(pins, strings.TrimSpace(f[0]+" "+strings.Join(f[2:], "")))
		}
	}
	return pins
}

// RPC posts to the node's RPC and returns the whole answer.
func (n *KuboNode) RPC(path string) (string, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL()+"/api/v0/"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

func (n *KuboNode) command(args ...string) *exec.Cmd {
	cmd := exec.Command(n.Bin, args...)
	cmd.Env = append(os.Environ(), "IPFS_PATH="+n.Repo, "IPFS_TELEMETRY=off", "GOLOG_LOG_LEVEL=error")
	return cmd
}
