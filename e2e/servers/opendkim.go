package servers

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// DKIMKey is a domain's key under a selector.
type DKIMKey struct {
	Domain, Selector string
	Private          *rsa.PrivateKey
}

// NewDKIMKey makes a key for a domain.
func NewDKIMKey(t T, domain string) DKIMKey {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	Must(t, err)
	return DKIMKey{domain, "test", private}
}

// Name returns the name of the key's DNS record.
func (k DKIMKey) Name() string { return k.Selector + "._domainkey." + k.Domain }

// TXT returns the text of the key's DNS record (RFC 6376 section 3.6.1).
func (k DKIMKey) TXT(t T) string {
	t.Helper()
	public, err := x509.MarshalPKIXPublicKey(&k.Private.PublicKey)
	Must(t, err)
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
}

// Write writes the private key to a file.
func (k DKIMKey) Write(t T, path string) {
	t.Helper()
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k.Private)}
	Must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
}

// StartOpenDKIM starts a milter that signs the mail of clients on 127.0.0.1, as OpenDKIM does by
// default, and returns its host:port.
func StartOpenDKIM(t T, key DKIMKey) (addr string) {
	t.Helper()
	Need(t, "opendkim")
	dir := t.TempDir()
	key.Write(t, filepath.Join(dir, "key"))
	// RequireSafeKeys would refuse keys below /tmp.
	conf := fmt.Sprintf("Mode s\nSyslog no\nCanonicalization relaxed/simple\nOversignHeaders From\nDomain %s\nSelector %s\nKeyFile %s/key\nRequireSafeKeys no\n", key.Domain, key.Selector, dir)
	Must(t, os.WriteFile(filepath.Join(dir, "opendkim.conf"), []byte(conf), 0o600))
	addr = FreeAddr(t)
	host, port, err := net.SplitHostPort(addr)
	Must(t, err)
	cmd := exec.Command(LookPath("opendkim"), "-f", "-x", filepath.Join(dir, "opendkim.conf"), "-p", "inet:"+port+"@"+host)
	Run(t, cmd, filepath.Join(dir, "log"), addr)
	return addr
}
