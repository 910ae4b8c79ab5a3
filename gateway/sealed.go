package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

// yearOfCache is for addresses that determine their content (RFC 8246).
const yearOfCache = 365 * 24 * time.Hour

// proofScheme is the scheme of the Authorization that brings the proof of a link.
const proofScheme = "Detach"

// share serves B, the gateway's half of the key, to clients that prove that they have the link. The
// operators of IPFS nodes know all CIDs, and could otherwise collect the shares of all objects.
func (g *gateway) share(w *response, r *http.Request, c cid.Cid) error {
	w.route, w.machine = "share", true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	proof, err := readProof(r)
	if err != nil {
		w.Header().Set("WWW-Authenticate", proofScheme)
		return err
	}
	return g.answer(w, r, c, "share", func(w *response, _ *http.Request, o *vault.Object) error {
		if !o.Origin().Asked(proof) {
			return vault.ErrWrongKey
		}
		return sendShare(w, o)
	})
}

// readProof returns the proof in a request's Authorization, or errProof if it has none.
func readProof(r *http.Request) (crypto.Proof, error) {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, proofScheme) { // RFC 9110 section 11.1
		return crypto.Proof{}, errProof
	}
	proof, err := crypto.ParseProof(strings.TrimLeft(text, " "))
	if err != nil {
		return crypto.Proof{}, errProof
	}
	return proof, nil
}

func sendShare(w *response, o *vault.Object) error {
	share, err := o.Share()
	if err != nil {
		return err
	}
	answer := struct {
		Share   string     `json:"share"`
		Expires *time.Time `json:"expires"`
	}{Share: share.Encode()}
	if !o.Expires.IsZero() {
		end := o.Expires.UTC()
		answer.Expires = &end
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("write share: %w", err)
	}
	return writeString(w, "application/json", string(text)+"\n")
}

// sendEntry streams the ciphertext of an entry of the object.
func sendEntry(name string) sender {
	return func(w *response, r *http.Request, o *vault.Object) error {
		content, err := o.Entry(r.Context(), name)
		if err != nil {
			return err
		}
		defer content.Close()
		cacheable(w, o)
		h := w.Header()
		h.Set("Content-Disposition", `attachment; filename="`+o.CID("").String()+"."+name+`"`)
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Etag", etag(o.CID(""), name))
		return w.stream(r, content, content.Size())
	}
}

// cacheable lets caches hold ciphertext until the object expires.
func cacheable(w *response, o *vault.Object) {
	age := yearOfCache
	if !o.Expires.IsZero() {
		age = max(0, min(age, time.Until(o.Expires)))
	}
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d, immutable, no-transform", int64(age.Seconds())))
}
