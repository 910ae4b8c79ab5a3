package ipfs

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/kubo/client/rpc"
)

const (
	// defaultIdle is how long a node may keep us waiting without any progress. A mail waits for a
	// node at most twice after its last byte, for the import and for the pin, and Postfix gives
	// up after 100 s.
	defaultIdle = 40 * time.Second
	// dialTimeout is short, for the next attempt is the sender's, and a node is near.
	dialTimeout = 5 * time.Second
	// undoTimeout bounds what is done for a Put that has already failed.
	undoTimeout = 5 * time.Second
	// maxAnswer bounds every answer of a node: a block, or the lines of a very long pin.
	maxAnswer = MaxBlock + 64<<10
)

// KuboConfig says where a node is.
type KuboConfig struct {
	// API is the address of the node's RPC: /ip4/127.0.0.1/tcp/5001, /unix/run/ipfs/api.sock or
	// http(s)://host:port.
	API string
	// Token is what the node's API.Authorizations asks for: a bearer token, or "basic:user:pass".
	Token string
	// Idle is how long the node may make no progress; 0 means 40 seconds.
	Idle time.Duration
}

// Kubo is the Store of an IPFS node, through its RPC. An object there is a recursive pin.
//
// The node is asked to look at its own blocks only: a block that it does not have is not there,
// and nothing waits for the network.
type Kubo struct {
	api   *rpc.HttpApi
	http  *transport
	idle  time.Duration
	reads chan struct{}               // has one in it for each block on its way
	small *lru.Cache[cid.Cid, []byte] // see getSmall
}

// maxReads bounds the connections that blocks come over, and so their buffers. A node that is asked for more at once answers
// none of them sooner.
const maxReads = 64

// NewKubo does not connect; Check does.
func NewKubo(cfg KuboConfig) (*Kubo, error) {
	idle := cfg.Idle
	if idle == 0 {
		idle = defaultIdle
	}
	base, t, err := dialer(cfg.API)
	if err != nil {
		return nil, err
	}
	api, err := rpc.NewURLApiWithClient(base, t.client())
	if err != nil {
		return nil, fmt.Errorf("kubo API: %w", err)
	}
	if cfg.Token != "" {
		api.Headers.Set("Authorization", authorization(cfg.Token))
	}
	return &Kubo{api: api, http: t, idle: idle, reads: make(chan struct{}, maxReads), small: newSmallBlocks()}, nil
}

// Open implements Store. It gets the root block. It does not look at pins: the node that is read
// from need not be the one that pinned.
func (k *Kubo) Open(ctx context.Context, root cid.Cid) (Blocks, error) {
	data, err := k.getBlock(ctx, root, nil)
	if err != nil {
		return nil, err
	}
	return &kuboBlocks{k: k, root: Block{root, data}, last: -1}, nil
}

// Delete implements Store. The blocks go with the node's next garbage collection.
func (k *Kubo) Delete(ctx context.Context, root cid.Cid) error {
	req := k.api.Request("pin/rm", root.String()).Option("recursive", true)
	err := k.call(ctx, "pin/rm", req, nil)
	if err != nil && strings.Contains(err.Error(), "not pinned") {
		return nil
	}
	return err
}

// Check implements Store: one small block goes the whole way, imported, pinned, read and unpinned.
// It is always the same one, so a node never holds more than that of all the checks.
func (k *Kubo) Check(ctx context.Context) error {
	root, err := k.Put(ctx, "detach check", func(add AddFunc) (cid.Cid, error) {
		n, err := AddFile(add, strings.NewReader("detach check"))
		return n.CID, err
	})
	if err != nil {
		return err
	}
	blocks, err := k.Open(ctx, root)
	if err != nil {
		return err
	}
	defer blocks.Close()
	f, err := OpenFile(ctx, blocks, root)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), k.Delete(ctx, root))
}

// Warnings names settings of the node that put objects at risk. A node that does not let us see
// its settings has none that we know of.
func (k *Kubo) Warnings(ctx context.Context) []string {
	var answer struct {
		Value struct {
			Mounts []struct {
				Type, Mountpoint string
				Sync             *bool
			}
		}
	}
	err := k.call(ctx, "config", k.api.Request("config", "Datastore.Spec"), func(dec *json.Decoder) error {
		return dec.Decode(&answer)
	})
	if err != nil {
		return nil
	}
	var warnings []string
	for _, m := range answer.Value.Mounts {
		if m.Type == "flatfs" && m.Sync != nil && !*m.Sync {
			warnings = append(warnings, "Datastore.Spec of the node has \"sync\": false for "+m.Mountpoint+
				": a power failure can lose files it has acknowledged; set it to true and restart the node")
		}
	}
	return warnings
}

// Close implements Store.
func (k *Kubo) Close() error {
	k.http.base.CloseIdleConnections()
	return nil
}

// call sends a request without a body of ours and reads its answer to the end, where a node says
// whether it has succeeded. It must come within the idle time.
func (k *Kubo) call(ctx context.Context, what string, req rpc.RequestBuilder, read func(*json.Decoder) error) error {
	watched, watch := k.watch(ctx)
	defer watch.end()
	return fail(ctx, watched, what, receive(watched, req, func(r io.Reader) error {
		if read != nil {
			if err := read(json.NewDecoder(r)); err != nil {
				return err
			}
		}
		_, err := io.Copy(io.Discard, r)
		return err
	}))
}

// receive sends a request and hands over the answer's body, which read takes to its end: an error
// of the node that comes after the status line comes there, from the trailer X-Stream-Error. One
// that comes with the status line is the transport's.
func receive(ctx context.Context, req rpc.RequestBuilder, read func(io.Reader) error) error {
	resp, err := req.Send(ctx)
	if err != nil {
		return err
	}
	defer resp.Output.Close()
	return read(resp.Output)
}

// fail gives an error its class. watched is the context that the watch ends, ctx the caller's.
func fail(ctx, watched context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("kubo %s: %w", what, context.Cause(ctx))
	}
	if cause := context.Cause(watched); cause == errStalled {
		err = cause
	}
	// A url.Error repeats the whole address with its arguments.
	if ue := new(url.Error); errors.As(err, &ue) {
		err = ue.Err
	}
	err = explainCertificate(err)
	if text := err.Error(); len(text) > 2*maxReason {
		err = errors.New(clip(text))
	}
	return unavailable("kubo "+what, err)
}

// explainCertificate says what to do about a certificate that is in order, but for who signed it.
func explainCertificate(err error) error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w: if the CA is your own, name the file of its certificate in the environment, SSL_CERT_FILE", err)
	}
	return err
}
