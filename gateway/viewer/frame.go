package viewer

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
)

const (
	// baseCSP ends the policy of every frame.
	baseCSP = "; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
	// elementStyle fits what is shown to the frame.
	elementStyle = "html,body{height:100%}body{margin:0;display:grid;place-items:center;background:#fff}img,video{max-width:100%;max-height:100vh}audio{width:90%}"
)

// elementCSP allows pictures and sound from the gateway, and the one style. No script runs.
var elementCSP = fmt.Sprintf("default-src 'none'; img-src 'self'; media-src 'self'; style-src %s; sandbox", BlockHash(elementStyle)) + baseCSP

//go:embed pdf.html
var pdfHTML string

//go:embed pdf.css
var pdfStyle string

//go:embed pdf.js
var pdfScript string

// A frame is the document around a file, and its policy.
type frame struct {
	around  *template.Template
	csp     string
	Style   template.CSS
	Script  template.JS
	Library string // where PDF.js is
}

// elements returns the frames of what a browser shows in an element. Text needs no frame.
func elements() map[string]frame {
	frames := make(map[string]frame)
	for kind, element := range map[string]string{
		"image": `<img src="{{.Address}}" alt="">`,
		"audio": `<audio src="{{.Address}}" controls></audio>`,
		"video": `<video src="{{.Address}}" controls></video>`,
	} {
		frames[kind] = frame{
			around: template.Must(template.New("").Parse("<!doctype html><meta charset=utf-8><title></title><style>{{.Style}}</style>" + element)),
			csp:    elementCSP,
			Style:  elementStyle,
		}
	}
	return frames
}

// pdfFrame returns the frame of a PDF file. Its policy allows our script and PDF.js, which may fetch from
// the gateway. What PDF.js has to run the scripts of a file is not embedded.
//
// A browser's own viewer cannot be used: those of Chromium 156 and Firefox 153 disregard a policy's
// sandbox, wherever they show a file, and run the scripts in it; in Chromium the document around it has the
// gateway's origin. In a frame with a sandbox attribute Chromium shows no PDF, and Firefox none without
// allow-scripts.
func pdfFrame(library string) frame {
	return frame{
		around: template.Must(template.New("").Parse(pdfHTML)),
		csp: fmt.Sprintf("default-src 'none'; script-src %s 'self' 'wasm-unsafe-eval'; worker-src blob: 'self'; connect-src 'self'; font-src 'self'; img-src blob: data:; style-src %s; sandbox allow-scripts",
			BlockHash(pdfScript), BlockHash(pdfStyle)) + baseCSP,
		Style:   template.CSS(pdfStyle),
		Script:  template.JS(pdfScript),
		Library: library,
	}
}

// BlockHash is the source expression by which a policy allows one inline script or style (CSP Level 3, section
// 2.3.1).
func BlockHash(block string) string {
	sum := sha256.Sum256([]byte(block))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
