package crash

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// Detach is killed and started again. The mail's objects are deleted, unless the next hop has the
// mail or may have it. The client got no reply and sends the mail again.
func TestKilledInEachState(t *testing.T) {
	faults.Covers(t, 25, 34)
	inEachState(t, map[state]fate{
		atGreeting: unheard, atEnvelope: unheard, atUpload: unheard, atImport: unheard, atPin: unheard,
		atStored: unheard, atSending: unheard, atSent: orphaned, atAnswered: unseen,
	}, []string{"SIGKILL"}, func(t *testing.T, s *scene, at state, _ string, want fate) {
		x := s.bring(t, at)
		s.Kill(t)
		x.release()
		reply := x.finish()
		s.Start(t)
		x.check(reply, want)
		s.again(t)
	})
}

// SIGTERM ends the sessions of clients that have not begun a mail. The others may finish.
func TestTerminatedInEachState(t *testing.T) {
	faults.Covers(t, 24)
	inEachState(t, map[state]fate{
		atGreeting: closing, atEnvelope: closing, atUpload: delivered, atImport: delivered, atPin: delivered,
		atStored: delivered, atSending: delivered, atSent: delivered, atAnswered: delivered,
	}, []string{"SIGTERM"}, func(t *testing.T, s *scene, at state, _ string, want fate) {
		x := s.bring(t, at)
		draining := s.waitLog(t, "msg=draining")
		s.Signal(t, syscall.SIGTERM)
		draining()
		x.release()
		var reply string
		if at < atUpload {
			reply = x.reply() // 421 comes unasked
		} else {
			reply = x.finish()
		}
		if err := s.Wait(); err != nil {
			t.Errorf("detach serve ended with %v", err)
		}
		s.Start(t)
		x.check(reply, want)
	})
}

// The node dies, is stopped, or loses its connections. A mail that is not completely stored stays
// with its sender. A stored mail no longer needs the node.
func TestNodeDiesInEachState(t *testing.T) {
	faults.Covers(t, 39, 40)
	s := startScene(t, true, "")
	ways := map[string]func(){"SIGKILL": s.kubo.Kill, "cut off": func() { s.wire.Cut() }, "SIGSTOP": s.kubo.Freeze}
	for at, want := range []fate{
		atGreeting: later, atEnvelope: later, atUpload: later, atImport: later, atPin: later,
		atStored: delivered, atSending: delivered, atSent: delivered, atAnswered: delivered,
	} {
		for way, die := range ways {
			if way == "SIGSTOP" && want == later {
				continue // Detach waits 40 s for it: see TestNodeStandsStill
			}
			t.Run(state(at).String()+"/"+way, func(t *testing.T) {
				x := s.bring(t, state(at))
				die()
				x.release()
				reply := x.finish()
				x.hop.waitIdle(t)
				s.heal(t, way)
				x.check(reply, want)
				s.again(t)
			})
		}
	}
}

// Detach gives up a stopped node before the client gives up Detach, whatever the node was asked
// last. When the node goes on, it keeps nothing of the mail.
func TestNodeStandsStill(t *testing.T) {
	faults.Covers(t, 40)
	for _, at := range []state{atUpload, atPin} {
		t.Run(at.String(), func(t *testing.T) {
			t.Parallel() // each waits 40 s
			s := startScene(t, true, "")
			x := s.bring(t, at)
			t.Cleanup(s.kubo.Thaw) // a stopped node cannot be ended
			s.kubo.Freeze()
			x.release()
			began := time.Now()
			reply := x.finish()
			if d := time.Since(began); d >= 100*time.Second {
				t.Errorf("the client got its reply after %v, and Postfix waits 100 s", d)
			}
			x.hop.waitIdle(t)
			s.heal(t, "SIGSTOP")
			x.check(reply, later)
			s.again(t)
		})
	}
}

// heal brings the store back, and starts Detach again, which would else notice within a minute.
func (s *scene) heal(t *testing.T, way string) {
	t.Helper()
	switch way {
	case "SIGKILL":
		s.kubo.Start()
	case "SIGSTOP":
		s.kubo.Thaw()
	}
	s.wire.Mend()
	if len(s.pending(t)) > 0 {
		s.Terminate(t)
		s.Start(t)
	}
}

// undoing is how long a client may wait for its reply while Detach asks a node that does not answer
// to delete objects. Detach gives the node 5 s for that, and 40 s for storing. The rest is for a
// busy machine.
const undoing = 30 * time.Second

// A mail is refused while the node is gone: the client gets the next hop's refusal, and the mail's
// objects are deleted later.
func TestRefusedWhileNodeIsGone(t *testing.T) {
	faults.Covers(t, 47)
	s := startScene(t, true, "")
	t.Cleanup(s.kubo.Thaw) // a stopped node cannot be ended
	for _, c := range []struct {
		at  state
		way string
		die func()
	}{
		{atStored, "cut off", func() { s.wire.Cut() }},
		{atSent, "cut off", func() { s.wire.Cut() }},
		{atSent, "SIGSTOP", s.kubo.Freeze},
	} {
		t.Run(c.at.String()+"/"+c.way, func(t *testing.T) {
			x := s.bring(t, c.at)
			c.die()
			began := time.Now()
			x.gate.open("450 4.2.0 Not now")
			if reply := x.finish(); reply != "450 4.2.0 Not now" {
				t.Errorf("the client got %q, want the next hop's 450", reply)
			}
			if d := time.Since(began); d > undoing {
				t.Errorf("the client got its reply after %v", d)
			}
			x.hop.waitIdle(t)
			if len(s.pending(t)) == 0 {
				t.Error("no record says that the mail's objects are still to be deleted")
			}
			s.heal(t, c.way)
			x.settled(x.before)
			s.again(t)
		})
	}
}

// The embedded store's folder disappears while an object is written there.
func TestFolderGoesWhileStoring(t *testing.T) {
	faults.Covers(t, 98)
	s := startScene(t, false, "")
	x := s.bring(t, atUpload)
	back := s.hide(t)
	reply := x.finish()
	back()
	if len(s.pending(t)) > 0 {
		s.Terminate(t)
		s.Start(t)
	}
	x.check(reply, later)
	if log := s.Log(t); strings.Contains(reply, "objects") || !strings.Contains(log, "name object") {
		t.Errorf("the reason is not in the log, or in the reply %q", reply)
	}
	s.again(t)
}
