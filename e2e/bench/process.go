package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// mailMemory: the most memory of a new process that has taken one large mail, in MiB.
func mailMemory(store string) func(*lab) contest {
	return func(l *lab) contest {
		sink := l.sink()
		mail := l.mail(newLetter(l.size.huge))
		return contest{ours: func() float64 {
			d := l.serve(sink, store)
			defer l.leave(d)
			l.send(d.Proxy, mail)
			return mebibytes(d.PeakMemory(l))
		}}
	}
}

// leave stops a Detach and removes what it has stored.
func (l *lab) leave(d *stage.Detach) {
	d.Terminate(l)
	stage.Must(l, os.RemoveAll(d.DataDir))
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// parallelMemory: the same for many mails together.
func parallelMemory(l *lab) contest {
	sink := l.sink()
	mail := l.mail(newLetter(l.size.parallel))
	return contest{ours: func() float64 {
		d := l.serve(sink, embedded)
		defer l.leave(d)
		var senders sync.WaitGroup
		for range 40 {
			senders.Go(func() { l.send(d.Proxy, mail) })
		}
		senders.Wait()
		return mebibytes(d.PeakMemory(l))
	}}
}

// downloadMemory: the same for a large download, by a process that did not take the mail.
func downloadMemory(l *lab) contest {
	p := l.publish(embedded, newLetter(l.size.huge))
	return contest{ours: func() float64 {
		p.Terminate(l)
		l.start(p.Detach)
		l.get(p.url, -1, p.size)
		return mebibytes(p.PeakMemory(l))
	}}
}

// growthOfSize: nanoseconds per byte of one large mail, and of smaller mails with as many bytes.
func growthOfSize(l *lab) contest {
	d := l.serve(l.sink(), embedded)
	const parts = 64
	perByte := func(size int64, times int) func() float64 {
		return func() float64 {
			mail, all := l.mail(newLetter(size)), 0.0
			for range times {
				took, _ := l.send(d.Proxy, mail)
				all += took
			}
			l.forget(d)
			return all * 1e9 / float64(size*int64(times))
		}
	}
	return contest{ours: perByte(l.size.huge, 1), theirs: perByte(l.size.huge/parts, parts), detach: d}
}

// growthOfObjects: milliseconds per mail of a Detach whose store has many objects, and of one whose
// store is empty at first.
func growthOfObjects(l *lab) contest {
	sink := l.sink()
	crowded := l.configure("", sink, embedded)
	l.fill(crowded.DataDir, l.size.objects)
	l.start(crowded)
	alone := l.serve(sink, embedded)
	mail := l.mail(newLetter(l.size.little))
	perMail := func(d *stage.Detach) func() float64 {
		return func() float64 {
			all := 0.0
			for range l.size.stored {
				took, _ := l.send(d.Proxy, mail)
				all += took
			}
			return 1000 * all / float64(l.size.stored)
		}
	}
	return contest{ours: perMail(crowded), theirs: perMail(alone), detach: crowded}
}

// fill makes the ledger's lines and the files of so many attachments in a data directory. The
// files' content is never read.
func (l *lab) fill(dataDir string, objects int) {
	l.Helper()
	stored, ledger := filepath.Join(dataDir, "objects"), filepath.Join(dataDir, "ledger")
	stage.Must(l, os.MkdirAll(stored, 0o700))
	stage.Must(l, os.MkdirAll(ledger, 0o700))
	now := time.Now().UTC().Truncate(time.Second)
	keys, err := keyring.Open(filepath.Join(dataDir, "keys"))
	stage.Must(l, err)
	epoch, err := keys.Writer(crypto.PeriodOf(now, 0))
	stage.Must(l, err)
	lines, err := os.Create(filepath.Join(ledger, string(epoch)+".jsonl"))
	stage.Must(l, err)
	defer lines.Close()
	content := make([]byte, 1000)
	enc := json.NewEncoder(lines)
	for range objects {
		c := someCID()
		stage.Must(l, os.WriteFile(filepath.Join(stored, c+".car"), content, 0o600))
		stage.Must(l, enc.Encode(map[string]any{"cid": c, "core": c, "size": 1000, "created": now, "kind": "file"}))
	}
}

// someCID returns a random CID of a directory.
func someCID() string {
	digest := sha256.Sum256(fmt.Append(nil, rand.Uint64(), rand.Uint64()))
	return cid.NewCidV1(cid.DagProtobuf, append([]byte{multihash.SHA2_256, sha256.Size}, digest[:]...)).String()
}

// startTime: from the start of a process to the reply to its first mail, which has an attachment,
// in ms.
func startTime(l *lab) contest {
	sink := l.sink()
	mail := l.mail(newLetter(l.size.little))
	return contest{ours: func() float64 {
		d := l.configure("", sink, embedded)
		took := 1000 * seconds(func() {
			l.start(d)
			l.send(d.Proxy, mail)
		})
		d.Terminate(l)
		return took
	}}
}
