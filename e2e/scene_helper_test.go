package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// scene is where it is played: a detach between a client and a next hop, both of them the test's, and a store.
type scene struct {
	*mortal
	hop  *hop
	kubo *servers.KuboNode // nil: the embedded store
	wire *wire
}

func startScene(t *testing.T, kubo bool, policy string) *scene {
	t.Helper()
	s := &scene{hop: startHop(t)}
	api := ""
	if kubo {
		s.kubo = servers.Kubo(t)
		s.wire = startWire(t, s.kubo)
		api = s.wire.api()
	}
	s.mortal = startMortal(t, setup{proxy: servers.FreeAddr(t), reinject: s.hop.addr, kubo: api, policy: "min_size = \"1\"\n" + policy})
	keepSecret(addressSecret, recipient)
	keepSecret(addressSecret, sender)
	return s
}

// inEachState plays a scene with each store, for each state that it has, and in each way.
func inEachState(t *testing.T, fates map[state]fate, ways []string, play func(t *testing.T, s *scene, at state, way string, want fate)) {
	for _, kubo := range []bool{false, true} {
		name := map[bool]string{false: "embedded", true: "kubo"}[kubo]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startScene(t, kubo, "")
			for at := atGreeting; at <= atAnswered; at++ {
				want, ok := fates[at]
				if !ok || !kubo && (at == atImport || at == atPin) {
					continue
				}
				for _, way := range ways {
					t.Run(at.String()+"/"+way, func(t *testing.T) { play(t, s, at, way, want) })
				}
			}
		})
	}
}

// objects are the CIDs of what is stored: files of the embedded store, or the node's pins with detach's name. A file that is
// not whole is named as it is.
func (s *scene) objects(t *testing.T) []string {
	t.Helper()
	var cids []string
	if s.kubo == nil {
		for _, name := range s.detach.objects(t) {
			cids = append(cids, strings.TrimSuffix(name, ".car"))
		}
		return cids
	}
	text, err := s.kubo.RPC("pin/ls?type=recursive&names=true")
	must(t, err)
	var pins struct {
		Keys map[string]struct{ Name string }
	}
	must(t, json.Unmarshal([]byte(text), &pins))
	for cid, pin := range pins.Keys {
		if strings.HasPrefix(pin.Name, "detach/v1 ") {
			cids = append(cids, cid)
		}
	}
	slices.Sort(cids)
	return cids
}

// A mail with two attachments, and one with so much text as well that no buffer on the way holds it.
var (
	film = attachment{"Harbour at noon.mp4", "Content-Type: video/mp4\r\nContent-Disposition: attachment; filename=\"Harbour at noon.mp4\"\r\n",
		noise(61, 3<<20+5)}
	played = strings.Replace(textAndPDF, "--b1--\r\n", "--b1\r\n"+film.header+
		"Content-Transfer-Encoding: base64\r\n\r\n"+base64Lines(film.content)+"--b1--\r\n", 1)
	bulky = strings.Replace(played, ".here they are.\r\n", ".here they are.\r\n"+
		strings.Repeat("And so on, and so forth, line after line.\r\n", 200_000), 1)
)

// exchange is one mail's way.
type exchange struct {
	*scene
	t      *testing.T
	client *servers.Client
	left   []string // what the client has still to say; the message's text in two parts
	at     state
	gate   *gate
	mail   string

	before  []string // objects
	began   int64    // bytes sent to the node
	letters int
}

// bring takes a mail to a state.
func (s *scene) bring(t *testing.T, at state) *exchange {
	t.Helper()
	x := &exchange{scene: s, t: t, at: at, mail: played, before: s.objects(t), letters: len(s.hop.letters())}
	if s.wire != nil {
		x.began = s.wire.bytesSent()
	}
	if at == atSending {
		x.mail = bulky
	}
	text := strings.ReplaceAll(x.mail, "\r\n.", "\r\n..") + ".\r\n"
	half := strings.LastIndex(text, "\r\n\r\n") + len(base64Lines(film.content))*3/4
	x.left = []string{"EHLO client.example", "MAIL FROM:<" + sender + ">", "RCPT TO:<" + recipient + ">", "DATA", text[:half], text[half:]}
	var err error
	x.client, err = servers.Dial(s.proxy, "")
	must(t, err)
	t.Cleanup(func() { x.client.Close() })
	kind := map[state]string{atStored: "DATA", atSending: "body", atSent: "."}[at]
	if kind != "" {
		x.gate = s.hop.hold(t, kind)
	}
	switch at {
	case atGreeting:
		x.say(1)
	case atEnvelope:
		x.say(3)
	default:
		x.say(5)
		x.awaitUpload()
	}
	x.overTheDot()
	return x
}

// overTheDot goes on from uploading to the states after the client's final dot.
func (x *exchange) overTheDot() {
	x.t.Helper()
	logged := x.waitLog(x.t, "msg=message")
	switch x.at {
	case atImport:
		wait := x.wire.catch(x.t, "dag/import")
		x.say(6)
		wait()
	case atPin:
		wait := x.wire.catch(x.t, "pin/add")
		x.say(6)
		wait()
		servers.Eventually(x.t, servers.Patience, "the second pin", func() bool { return len(x.objects(x.t)) == len(x.before)+2 })
	case atStored, atSending, atSent:
		x.say(6)
		x.gate.wait()
	case atAnswered:
		x.say(6)
		logged()
	}
}

// say brings the client's part up to its nth step, all of which must succeed.
func (x *exchange) say(n int) {
	x.t.Helper()
	for len(x.left) > 6-n {
		if reply := x.step(); reply[0] > '3' {
			x.t.Fatalf("with %d steps to go the client got %q", len(x.left), reply)
		}
	}
}

// step says one thing and returns the reply to it. The message's text has none here.
func (x *exchange) step() string {
	line := x.left[0]
	x.left = x.left[1:]
	if len(x.left) < 2 {
		x.client.SetWriteDeadline(time.Now().Add(2 * time.Minute))
		if _, err := x.client.Write([]byte(line)); err != nil {
			return "lost"
		}
		return "2 sent"
	}
	// A server that has left may have said why, so that it cannot be written to is no reason not to read.
	x.client.Write([]byte(line + "\r\n"))
	return x.reply()
}

func (x *exchange) reply() string {
	reply, err := x.client.Reply()
	if err != nil || reply == "" {
		return "lost"
	}
	return reply
}

// finish says all that is left, and returns the reply that decides about the mail.
func (x *exchange) finish() string {
	for len(x.left) > 0 {
		if reply := x.step(); reply == "lost" || reply[0] > '3' {
			return reply
		}
	}
	return x.reply()
}

// release lets go of whatever is held.
func (x *exchange) release() {
	if x.gate != nil {
		x.gate.open("")
	}
	if x.wire != nil {
		x.wire.release()
	}
}

// awaitUpload waits until the first attachment is stored, and a good part of the second has come to the store.
func (x *exchange) awaitUpload() {
	x.t.Helper()
	servers.Eventually(x.t, servers.Patience, "an upload under way", func() bool {
		if len(x.objects(x.t)) == len(x.before) {
			return false
		}
		if x.kubo != nil {
			return x.wire.bytesSent() > x.began+3<<19
		}
		for _, name := range x.detach.objects(x.t) {
			info, err := os.Stat(filepath.Join(x.dataDir, "objects", name))
			if strings.HasSuffix(name, ".tmp") && err == nil && info.Size() >= 1<<20 && len(x.objects(x.t)) > len(x.before)+1 {
				return true
			}
		}
		return false
	})
}

// check compares what has come of a mail with its fate, when all is settled; and that a link which anybody has leads to its file.
func (x *exchange) check(reply string, want fate) {
	x.t.Helper()
	if want.reply != "" && !strings.HasPrefix(reply, want.reply) {
		x.t.Errorf("the client got %q, want %q", reply, want.reply)
	}
	x.hop.waitIdle(x.t)
	letters := x.hop.letters()[x.letters:]
	if got := len(letters) == 1; got != want.whole || len(letters) > 1 {
		x.t.Errorf("the next hop has %d whole mails, want one: %v", len(letters), want.whole)
	}
	keep := slices.Clone(x.before)
	for _, l := range letters {
		cids := x.opens(l.data)
		if want.kept {
			keep = append(keep, cids...)
		}
	}
	slices.Sort(keep)
	x.settled(keep)
}

// settled waits until nothing is left but what is to be kept, all of it in the ledger.
func (x *exchange) settled(keep []string) {
	x.t.Helper()
	var objects, pending []string
	deadline := time.Now().Add(servers.Patience)
	for {
		objects, pending = x.objects(x.t), x.pending(x.t)
		if slices.Equal(objects, keep) && len(pending) == 0 {
			break
		}
		if time.Now().After(deadline) {
			x.t.Errorf("stored: %q\nwant: %q\n%d records of mails under way, want none", objects, keep, len(pending))
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	promised := x.promised(x.t)
	for _, cid := range keep {
		if !promised[cid] {
			x.t.Errorf("%s is not in the ledger", cid)
		}
	}
	if left, err := os.ReadDir(x.tmp); err != nil || len(left) > 0 {
		x.t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

// opens downloads everything a rewritten mail links to: its attachments, each and as one, and itself as it was. It returns the
// CIDs.
func (x *exchange) opens(text string) []string {
	x.t.Helper()
	original := sha256.Sum256([]byte(x.mail))
	want := []string{report.sha256(), film.sha256(), hex.EncodeToString(original[:])}
	slices.Sort(want)
	var cids, got []string
	for _, m := range linkPattern.FindAllStringSubmatch(text, -1) {
		l := newLink(m)
		if slices.Contains(cids, l.cid) {
			continue
		}
		cids = append(cids, l.cid)
		if !l.all {
			got = append(got, fileHash(x.t, l))
		} else if got, want := zipHashes(x.t, l), hashes([]attachment{report, film}); !slices.Equal(got, want) {
			x.t.Errorf("the ZIP of all has files with SHA-256 %q, want %q", got, want)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		x.t.Errorf("the mail's links lead to %q, want %q", got, want)
	}
	return cids
}

// again sends the mail once more, as a client does that was not told 250.
func (s *scene) again(t *testing.T) {
	t.Helper()
	x := s.bring(t, atGreeting)
	reply := x.finish()
	x.client.Close()
	x.check(reply, delivered)
}

// hide takes the embedded store's folder away. Root may write anywhere, so rights would not do.
func (s *scene) hide(t *testing.T) (back func()) {
	t.Helper()
	objects := filepath.Join(s.dataDir, "objects")
	must(t, os.Rename(objects, objects+".away"))
	must(t, os.WriteFile(objects, nil, 0o600))
	return func() {
		t.Helper()
		must(t, os.Remove(objects))
		must(t, os.Rename(objects+".away", objects))
	}
}
