package kubo

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/ipfs/kubo/client/rpc"
)

// client posts commands to a node. Only this file uses kubo's own library.
type client struct{ api *rpc.HttpApi }

// newClient returns a client of the RPC at base, an http(s) URL. It does not connect.
func newClient(base string, h *http.Client) (client, error) {
	api, err := rpc.NewURLApiWithClient(base, h)
	if err != nil {
		return client{}, fmt.Errorf("kubo API: %w", err)
	}
	return client{api}, nil
}

// options are the options of a command.
type options map[string]any

// post sends a command and returns the node's answer. arg may be empty, and body nil. post returns
// the node's error if it comes with the status line; the answer's Read returns it instead of io.EOF
// if it comes later, in the trailer X-Stream-Error. So the caller must read the answer to its end,
// and close it.
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
