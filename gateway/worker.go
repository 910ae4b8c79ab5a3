package gateway

import "net/http"

// workerPath is where the script lies that decrypts in the browser, and its folder is its scope: it
// answers for the addresses below, which only it knows, and for no page.
const workerPath = "/w/worker.js"

func (g *gateway) worker(w *response, r *http.Request) error {
	w.route, w.machine = "worker", true
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	w.Header().Set("Content-Security-Policy", workerCSP)
	return writeString(w, "text/javascript; charset=utf-8", g.pages.worker)
}
