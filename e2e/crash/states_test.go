package crash

import (
	"maps"
	"net"
	"slices"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// A mail is brought to a state, and then something dies. The states are those of proxy/doc.go,
// split where the mail has left different things in different places.
//
// Detach gives up a stalled peer after minutes, so package proxy tests stalled clients, next hops and
// stores, with synthetic time (docs/faults.md names the tests). kill_test.go stops a real node.
type state int

const (
	atGreeting state = iota // S0
	atEnvelope              // S1: the next hop has sender and recipient
	atUpload                // S2: the first attachment is stored, the second is on its way
	atImport                // S2, kubo only: all is read, and the node has not answered to the last object
	atPin                   // S2, kubo only: an object is pinned, and the node has not answered
	atStored                // S3: all is stored, and the next hop has got DATA
	atSending               // S3: the next hop has the beginning of the message
	atSent                  // S4: the next hop has the final dot, and has not answered
	atAnswered              // S5: the next hop has answered 250, and the client has not read it
)

var stateNames = []string{"S0 connected", "S1 envelope", "S2 uploading", "S2 importing", "S2 pinning", "S3 stored", "S3 sending", "S4 sent", "S5 answered"}

func (s state) String() string { return stateNames[s] }

// fate is the outcome of a mail: the client's reply, and what the next hop and the store have.
type fate struct {
	reply string // its beginning; "lost": the connection ends without a reply; "": the client is gone
	whole bool   // the next hop has the final dot
	kept  bool   // the mail's objects stay
}

var (
	noLetter  = fate{}
	unheard   = fate{reply: "lost"}
	later     = fate{reply: "451 4.3.0 Temporary failure"}
	closing   = fate{reply: "421 4.3"}
	delivered = fate{reply: "250 2.0.0 Ok: queued as 4Xhop", whole: true, kept: true}
	doubtful  = fate{reply: "451 4.3.0 Temporary failure", whole: true, kept: true}
	orphaned  = fate{reply: "lost", whole: true, kept: true}
	unseen    = fate{whole: true, kept: true}
)

// The mail of a client that leaves before the final dot is dropped. After the dot the next hop
// decides.
func TestClientVanishesInEachState(t *testing.T) {
	faults.Covers(t, 17, 34)
	vanish := map[string]func(c *net.TCPConn){
		"closes":      func(c *net.TCPConn) { c.Close() },
		"half-closes": func(c *net.TCPConn) { c.CloseWrite() },
		"is reset":    func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
	}
	inEachState(t, map[state]fate{
		atGreeting: noLetter, atEnvelope: noLetter, atUpload: noLetter, atImport: noLetter, atPin: noLetter,
		atStored: noLetter, atSending: noLetter, atSent: unseen, atAnswered: unseen,
	}, slices.Sorted(maps.Keys(vanish)), func(t *testing.T, s *scene, at state, way string, want fate) {
		x := s.bring(t, at)
		logged := s.waitLog(t, "msg=message")
		vanish[way](x.client.Conn.(*net.TCPConn))
		if at == atPin {
			x.release() // while Detach waits for the node it does not read from the client
		}
		if at >= atUpload && at <= atSending {
			logged() // before the next hop can answer
		}
		x.release()
		x.check("", want)
		s.again(t)
	})
}

// A next hop that leaves before the final dot has no mail. After the dot it may have the mail, so
// the links work.
func TestNextHopVanishesInEachState(t *testing.T) {
	faults.Covers(t, 32, 33, 34)
	inEachState(t, map[state]fate{
		atGreeting: closing, atEnvelope: later, atUpload: later, atImport: later, atPin: later,
		atStored: later, atSending: later, atSent: doubtful, atAnswered: delivered,
	}, []string{"closes", "is reset"}, func(t *testing.T, s *scene, at state, way string, want fate) {
		x := s.bring(t, at)
		s.hop.cut(way == "is reset")
		x.release()
		x.check(x.finish(), want)
		s.again(t)
	})
}

// The client gets the next hop's refusal, and the mail's objects are deleted.
func TestRefusedMailLeavesNothing(t *testing.T) {
	faults.Covers(t, 30)
	const no = "550-5.7.1 We do not\r\n550 5.7.1 want this"
	inEachState(t, map[state]fate{atStored: {}, atSent: {whole: true}}, []string{"refuses"}, func(t *testing.T, s *scene, at state, _ string, want fate) {
		x := s.bring(t, at)
		x.gate.open(no)
		if reply := x.finish(); reply != no {
			t.Errorf("the client got %q, want %q", reply, no)
		}
		x.hop.waitIdle(t)
		if got := len(x.hop.letters()) - x.letters; got == 1 != want.whole {
			t.Errorf("the next hop has %d whole mails, want one: %v", got, want.whole)
		}
		x.settled(x.before)
		s.again(t)
	})
}
