package kubo

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
)

// token is the secret of a node's API.Authorizations, which may change while requests are sent.
type token struct {
	read func() (string, error)
	last atomic.Pointer[string] // what read returned without an error
}

// newToken returns an error if the secret cannot be read now.
func newToken(read func() (string, error)) (*token, error) {
	secret, err := read()
	if err != nil {
		return nil, fmt.Errorf("kubo API: %w", err)
	}
	t := &token{read: read}
	t.last.Store(&secret)
	return t, nil
}

// get returns the secret, or the last one if it cannot be read: an administrator who replaces a
// file may leave it empty for a moment.
func (t *token) get() string {
	secret, err := t.read()
	if err != nil {
		return *t.last.Load()
	}
	t.last.Store(&secret)
	return secret
}

// authorized returns the request with the present secret.
func (t *transport) authorized(req *http.Request) *http.Request {
	if t.token == nil {
		return req
	}
	secret := t.token.get()
	if secret == "" {
		return req
	}
	req = req.Clone(req.Context()) // a RoundTripper must not change its caller's request
	req.Header.Set("Authorization", authorization(secret))
	return req
}

// authorization returns the Authorization header for a token of kubo's API.Authorizations.
func authorization(token string) string {
	if basic, ok := strings.CutPrefix(token, "basic:"); ok {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(basic))
	}
	return "Bearer " + strings.TrimPrefix(token, "bearer:")
}
