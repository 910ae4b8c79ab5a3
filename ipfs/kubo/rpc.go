package kubo

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/ipfs/kubo/client/rpc"
)

// client posts commands to a node. It is all that this package uses of kubo's own library; no other
// file imports it.
type client struct{ api *rpc.HttpApi }

// newClient returns a client of the RPC at base, an http(s) URL. It does not connect.
func newClient(base string, h *http.Client, token string) (client, error) {
	api, err := rpc.NewURLApiWithClient(base, h)
	if err != nil {
		return client{}, fmt.Errorf("kubo API: %w", err)
	}
	if token != "" {
		api.Headers.Set("Authorization", authorization(token))
	}
	return client{api}, nil
}

// options are what a command takes besides its argument.
type options map[string]any

// post sends a command and returns the node's answer. arg may be empty, and body nil. An error of
// the node that comes with the status line is post's; one that comes later, in the trailer
// X-Stream-Error, is the answer's in place of io.EOF. So the caller reads the answer to its end,
// and closes it.
func (c client) post(ctx context.Context, command, arg string, opts options, body *upload) (io.ReadCloser, error) {
	req := c.api.Request(command)
	if arg != "" {
		req.Arguments(arg)
	}
	for name, value := range opts {
		req.Option(name, value)
	}
	if body != nil {
		req.Body(body).Header("Content-Type", body.contentType)
	}
	resp, err := req.Send(ctx)
	if err != nil {
		return nil, err
	}
	return resp.Output, nil
}
