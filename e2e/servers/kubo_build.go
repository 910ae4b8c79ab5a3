package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// KuboBinary finds the ipfs command: the one that DETACH_TEST_IPFS names, or that of the PATH, or
// one built from e2e/kubo, which is kept for the next time.
func KuboBinary() (string, error) {
	if bin := os.Getenv("DETACH_TEST_IPFS"); bin != "" {
		if _, err := os.Stat(bin); err != nil {
			return "", fmt.Errorf("DETACH_TEST_IPFS: %w", err)
		}
		return bin, nil
	}
	if bin, err := exec.LookPath("ipfs"); err == nil {
		return bin, nil
	}
	return BuildKubo()
}

// BuildKubo builds the ipfs command once for each version, into the user's cache, and returns its
// path. It takes minutes the first time. Tests of several packages that want it at the same time
// wait for one another.
func BuildKubo() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source tree is not known")
	}
	module := filepath.Join(filepath.Dir(filepath.Dir(file)), "kubo")
	version, err := goOutput(module, "list", "-m", "-f", "{{.Version}}", "github.com/ipfs/kubo")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "detach-test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "ipfs-"+version)
	unlock, err := lockFile(bin + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	// Built beside its name and renamed: a build that is interrupted leaves no half of a binary.
	if _, err := goOutput(module, "build", "-o", bin+".new", "github.com/ipfs/kubo/cmd/ipfs"); err != nil {
		return "", err
	}
	return bin, os.Rename(bin+".new", bin)
}

// goOutput runs the go command in a module's directory.
func goOutput(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// lockFile waits for the lock that a file stands for.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
