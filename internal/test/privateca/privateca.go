// Package privateca is a private certificate authority for tests of TLS. Only tests import it.
package privateca

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// A CA signs certificates of servers. The servers use its key.
type CA struct {
	cert []byte // DER
	ca   *x509.Certificate
	key  ed25519.PrivateKey
}

// New returns a new authority, valid for an hour.
func New(tb testing.TB) *CA {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must.Succeed(tb, err)
	c := &CA{key: key, ca: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	c.cert = c.issue(tb, c.ca)
	return c
}

// Pool returns a pool that trusts the authority, and no other.
func (c *CA) Pool(tb testing.TB) *x509.CertPool {
	tb.Helper()
	cert, err := x509.ParseCertificate(c.cert)
	must.Succeed(tb, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// WriteFile writes the authority's certificate in PEM, as SSL_CERT_FILE names one.
func (c *CA) WriteFile(tb testing.TB, path string) {
	tb.Helper()
	writePEM(tb, path, "CERTIFICATE", c.cert)
}

// Sign returns a certificate for a server at host, which is a name or an IP address.
func (c *CA) Sign(tb testing.TB, host string, validFor time.Duration) tls.Certificate {
	tb.Helper()
	cert := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotAfter: time.Now().Add(validFor)}
	if ip := net.ParseIP(host); ip != nil {
		cert.IPAddresses = []net.IP{ip}
	} else {
		cert.DNSNames = []string{host}
	}
	return tls.Certificate{Certificate: [][]byte{c.issue(tb, cert)}, PrivateKey: c.key}
}

// WriteServer writes a certificate that Sign returned, and its key, for a web server.
func WriteServer(tb testing.TB, cert tls.Certificate, certFile, keyFile string) {
	tb.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	must.Succeed(tb, err)
	writePEM(tb, certFile, "CERTIFICATE", cert.Certificate[0])
	writePEM(tb, keyFile, "PRIVATE KEY", key)
}

func (c *CA) issue(tb testing.TB, cert *x509.Certificate) []byte {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, c.ca, c.key.Public(), c.key)
	must.Succeed(tb, err)
	return der
}

func writePEM(tb testing.TB, path, kind string, der []byte) {
	tb.Helper()
	must.Succeed(tb, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}
