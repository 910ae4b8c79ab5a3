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

// KuboBinary returns the path of the ipfs command: from DETACH_TEST_IPFS, from the PATH, or built
// from e2e/kubo into the user's cache.
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
	return buildKubo()
}

// buildKubo builds the ipfs command, once for each version, and returns its path. That takes
// minutes the first time. Tests of several packages that need the command at the same time wait for
// one another.
func buildKubo() (string, error) {
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
	lock, err := os.OpenFile(bin+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	// An interrupted build must not leave half of a binary under the final name.
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
