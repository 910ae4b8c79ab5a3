package crash

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// scene is a detach between a client and a next hop, both of them the test's, and a store.
type scene struct {
	*stage.Detach
	hop    *hop
	kubo   *servers.KuboNode // nil: the embedded store
	wire   *stage.Wire       // to the node
	answer chan struct{}     // closed to release the node's held answer; nil: no answer is held
}

func startScene(t *testing.T, kubo bool, policy string) *scene {
	t.Helper()
	s := &scene{hop: startHop(t)}
	api := ""
	if kubo {
		s.kubo = servers.Kubo(t)
		s.wire = stage.NewWire(t, strings.TrimPrefix(s.kubo.URL(), "http://"))
		api = servers.Multiaddr(s.wire.Addr)
	}
	s.Detach = stage.Serve(t, stage.Setup{Reinject: s.hop.addr, Kubo: api, Policy: "min_size = \"1\"\n" + policy})
	return s
}

// catch holds the node's answer to the next request of a command, and returns a function that waits
// for that answer.
func (s *scene) catch(t *testing.T, command string) (wait func()) {
	came, answer := make(chan struct{}), make(chan struct{})
	s.answer = answer
	s.wire.Set(stage.There, stage.Trap{Words: "/api/v0/" + command, Then: func(c *stage.Conn) stage.Fate {
		c.Set(stage.Back, stage.Trap{Then: func(c *stage.Conn) stage.Fate {
			close(came)
			stage.Hold(c, answer)
			return stage.GoesOn
		}})
		return stage.GoesOn
	}})
	return func() {
		t.Helper()
		select {
		case <-came:
		case <-time.After(servers.Patience):
			t.Fatal("the node has not answered " + command)
		}
	}
}

// pending returns the records of mails under way.
func (s *scene) pending(t *testing.T) []string { return s.Files(t, "pending/*") }

// waitLog returns a function that waits until a text is logged after the call of waitLog.
func (s *scene) waitLog(t *testing.T, text string) func() {
	t.Helper()
	before := strings.Count(s.Log(t), text)
	return func() {
		t.Helper()
		servers.Eventually(t, servers.Patience, "a log line with "+text, func() bool { return strings.Count(s.Log(t), text) > before })
	}
}

// inEachState plays a scene with each store, in each of its states that has a fate, and in each
// way.
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

// objects returns the CIDs in the store: of the embedded store's files, or of the node's pins with
// detach's name. An incomplete file is listed by its name.
func (s *scene) objects(t *testing.T) []string {
	t.Helper()
	var cids []string
	if s.kubo == nil {
		for _, name := range s.Objects(t) {
			cids = append(cids, strings.TrimSuffix(name, ".car"))
		}
		return cids
	}
	text, err := s.kubo.RPC("pin/ls?type=recursive&names=true")
	stage.Must(t, err)
	var pins struct {
		Keys map[string]struct{ Name string }
	}
	stage.Must(t, json.Unmarshal([]byte(text), &pins))
	for cid, pin := range pins.Keys {
		if strings.HasPrefix(pin.Name, "detach/v1 ") {
			cids = append(cids, cid)
		}
	}
	slices.Sort(cids)
	return cids
}

// played has two attachments. bulky also has more text than the buffers on the way hold.
var (
	film = stage.Attachment{Name: "Harbour at noon.mp4", Header: "Content-Type: video/mp4\r\nContent-Disposition: attachment; filename=\"Harbour at noon.mp4\"\r\n",
		Content: stage.Noise(61, 3<<20+5)}
	played = strings.Replace(stage.TextAndPDF, "--b1--\r\n", "--b1\r\n"+film.Part()+"--b1--\r\n", 1)
	bulky  = strings.Replace(played, ".here they are.\r\n", ".here they are.\r\n"+
		strings.Repeat("And so on, and so forth, line after line.\r\n", 200_000), 1)
)

// exchange is one mail on its way.
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
		x.began = s.wire.Came(stage.There)
	}
	if at == atSending {
		x.mail = bulky
	}
	text := strings.ReplaceAll(x.mail, "\r\n.", "\r\n..") + ".\r\n"
	half := strings.LastIndex(text, "\r\n\r\n") + len(stage.Base64Lines(film.Content))*3/4
	x.left = []string{"EHLO client.example", "MAIL FROM:<" + stage.Sender + ">", "RCPT TO:<" + stage.Recipient + ">", "DATA", text[:half], text[half:]}
	x.client = servers.Connect(t, s.Proxy)
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
	var wait func()
	switch x.at {
	case atImport:
		wait = x.catch(x.t, "dag/import")
	case atPin:
		wait = x.catch(x.t, "pin/add")
	case atStored, atSending, atSent:
		wait = x.gate.wait
	case atAnswered:
		wait = x.waitLog(x.t, "msg=message")
	default:
		return
	}
	x.say(6)
	wait()
	if x.at == atPin {
		servers.Eventually(x.t, servers.Patience, "the second pin", func() bool { return len(x.objects(x.t)) == len(x.before)+2 })
	}
}

// say takes the client's steps up to the nth, all of which must succeed.
func (x *exchange) say(n int) {
	x.t.Helper()
	for len(x.left) > 6-n {
		if reply := x.step(); reply[0] > '3' {
			x.t.Fatalf("with %d steps to go the client got %q", len(x.left), reply)
		}
	}
}

// step takes one step and returns the reply. The message's text has no reply and counts as a
// success.
func (x *exchange) step() string {
	line := x.left[0]
	x.left = x.left[1:]
	if len(x.left) < 2 {
		x.client.SetWriteDeadline(time.Now().Add(servers.Patience))
		if _, err := x.client.Write([]byte(line)); err != nil {
			return "lost"
		}
		return "2 sent"
	}
	// A server that has left may have said why, so a failed write is followed by a read.
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

// finish takes the steps that are left, closes the connection, and returns the reply that decides
// about the mail.
func (x *exchange) finish() string {
	defer x.client.Close()
	for len(x.left) > 0 {
		if reply := x.step(); reply == "lost" || reply[0] > '3' {
			return reply
		}
	}
	return x.reply()
}

// release opens the gate and releases the node's held answer.
func (x *exchange) release() {
	if x.gate != nil {
		x.gate.open("")
	}
	if x.answer != nil {
		close(x.answer)
		x.scene.answer = nil
	}
}

// awaitUpload waits until the first attachment is stored, and a good part of the second has come to
// the store.
func (x *exchange) awaitUpload() {
	x.t.Helper()
	servers.Eventually(x.t, servers.Patience, "an upload under way", func() bool {
		if len(x.objects(x.t)) == len(x.before) {
			return false
		}
		if x.kubo != nil {
			return x.wire.Came(stage.There) > x.began+3<<19
		}
		for _, name := range x.Objects(x.t) {
			info, err := os.Stat(filepath.Join(x.DataDir, "objects", name))
			if strings.HasSuffix(name, ".tmp") && err == nil && info.Size() >= 1<<20 && len(x.objects(x.t)) > len(x.before)+1 {
				return true
			}
		}
		return false
	})
}

// check waits until everything is settled and compares the outcome of a mail with its fate. Each
// link in the next hop's mails must lead to its file.
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
		cids := x.opens(l)
		if want.kept {
			keep = append(keep, cids...)
		}
	}
	slices.Sort(keep)
	x.settled(keep)
}

// settled waits until only the objects to keep are stored. They must all be in the ledger.
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
	promised := x.Ledger(x.t)
	for _, cid := range keep {
		if !promised[cid] {
			x.t.Errorf("%s is not in the ledger", cid)
		}
	}
	for _, dir := range []string{x.Tmp, filepath.Join(x.DataDir, "tmp")} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			x.t.Errorf("temporary files are left: %v, %v", left, err)
		}
	}
}

// opens downloads everything that a rewritten mail links to: its attachments, each alone and all in
// one ZIP, and the original mail. It returns the CIDs.
func (x *exchange) opens(text string) []string {
	x.t.Helper()
	want := []string{stage.Report.SHA256(), film.SHA256(), stage.SHA256([]byte(x.mail))}
	slices.Sort(want)
	var cids, got []string
	for _, l := range stage.LinksIn(text) {
		if slices.Contains(cids, l.CID) {
			continue
		}
		cids = append(cids, l.CID)
		if !l.All {
			got = append(got, stage.FileHash(x.t, l))
			continue
		}
		hashes, err := l.ZIPHashes(x.t.Context())
		if want := stage.Hashes([]stage.Attachment{stage.Report, film}); err != nil || !slices.Equal(hashes, want) {
			x.t.Errorf("the ZIP of all has files with SHA-256 %q, %v, want %q", hashes, err, want)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		x.t.Errorf("the mail's links lead to %q, want %q", got, want)
	}
	return cids
}

// again sends the mail once more, as a client does that got no 250.
func (s *scene) again(t *testing.T) {
	t.Helper()
	x := s.bring(t, atGreeting)
	x.check(x.finish(), delivered)
}

// hide replaces the embedded store's folder by a file. Permissions would not keep root from
// writing.
func (s *scene) hide(t *testing.T) (back func()) {
	t.Helper()
	objects := filepath.Join(s.DataDir, "objects")
	stage.Must(t, os.Rename(objects, objects+".away"))
	stage.Must(t, os.WriteFile(objects, nil, 0o600))
	return func() {
		t.Helper()
		stage.Must(t, os.Remove(objects))
		stage.Must(t, os.Rename(objects+".away", objects))
	}
}
