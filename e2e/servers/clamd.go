package servers

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// StartClamd starts a ClamAV that knows one virus: any file with the given text. It returns the
// host:port of the daemon.
func StartClamd(t T, virus, text string) (addr string) {
	t.Helper()
	Need(t, "clamd")
	dir := t.TempDir()
	// NAME:TARGET:OFFSET:HEX, with 0 for files of any type and * for any place in the file.
	signature := fmt.Sprintf("%s:0:*:%s\n", virus, hex.EncodeToString([]byte(text)))
	Must(t, os.Mkdir(filepath.Join(dir, "db"), 0o755))
	Must(t, os.WriteFile(filepath.Join(dir, "db", "own.ndb"), []byte(signature), 0o644))
	addr = FreeAddr(t)
	host, port, err := net.SplitHostPort(addr)
	Must(t, err)
	conf := filepath.Join(dir, "clamd.conf")
	Must(t, os.WriteFile(conf, fmt.Appendf(nil, "Foreground yes\nDatabaseDirectory %s/db\nTCPAddr %s\nTCPSocket %s\n", dir, host, port), 0o644))
	Run(t, exec.Command(LookPath("clamd"), "-c", conf), filepath.Join(dir, "log"), addr)
	return addr
}
