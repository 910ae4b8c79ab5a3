package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// sizes are the amounts of everything.
type sizes struct {
	big, huge, medium, parallel, little int64 // of attachments
	mails                               int   // small ones, in a row
	stored                              int   // mails for the time per mail
	objects                             int   // in a store that is full
	requests                            int   // for a percentile
}

var (
	full = sizes{
		big: 512 << 20, huge: 1 << 30, medium: 25e6, parallel: 10e6, little: 100e3,
		mails: 10_000, stored: 200, objects: 100_000, requests: 200,
	}
	quick = sizes{
		big: 4 << 20, huge: 33 << 20, medium: 1e6, parallel: 200e3, little: 100e3,
		mails: 100, stored: 5, objects: 500, requests: 10,
	}
)

// A row is one line of the table.
type row struct {
	name  string
	what  string
	unit  unit
	bar   bar
	kubo  bool // it needs the node
	begin func(*lab) contest
}

// rows is the table.
func rows(s sizes) []row {
	const mib, ms = unit("MiB"), unit("ms")
	replies := []row{}
	for _, n := range []int64{s.little, s.medium, s.big} {
		what, size := "last byte of a mail to the reply, attachment of "+bytesOf(n), strings.ReplaceAll(bytesOf(n), " ", "")
		replies = append(replies,
			row{"reply-embedded-" + size, what + ", embedded", ms, atMost(50), false, replyTime(embedded, n)},
			row{"reply-kubo-" + size, what + ", kubo", ms, atMost(50), true, replyTime(kubo, n)})
	}
	return slices.Concat([]row{
		{"store-kubo", "attachment of " + bytesOf(s.big) + " by mail into kubo; `ipfs add` of its bytes from a file", "s", atMost(1.1), true, storeKubo},
		{"store-embedded", "the same into the embedded store; `base64 -d`, `openssl enc`, `tee` to `sha256sum`, `dd conv=fsync`", "s", atMost(0.8), false, storeEmbedded},
	}, replies, []row{
		{"postfix", "Postfix, Detach, Postfix, attachment of " + bytesOf(s.medium) + "; Postfix without filter", "s", atMost(1.0), false, throughPostfix},
		{"small-direct", fmt.Sprintf("%d mails of 4 KB, 20 at a time, to smtp-sink; without Detach", s.mails), "s", atMost(1.25), false, smallDirect},
		{"small-proxsmtp", fmt.Sprintf("%d of them; through proxsmtp", s.mails/proxsmtpShare), "s", atMost(1.0), false, smallProxsmtp},
		{"walk", "MIME walk with nothing to detach; a plain copy through the same buffers", "MB/s", atLeast(0.5), false, mimeWalk},
		{"gateway-embedded", "download of " + bytesOf(s.big) + ", embedded; the plaintext from nginx", "MB/s", atLeast(0.5), false, gatewayEmbedded},
		{"gateway-kubo", "the same, kubo; the ciphertext from kubo's own gateway", "MB/s", atLeast(0.8), true, gatewayKubo},
		{"range-embedded", "64 KiB in the middle of " + bytesOf(s.huge) + ", 95th percentile, embedded", ms, atMost(5), false, rangeTime(embedded)},
		{"range-kubo", "the same, kubo", ms, atMost(15), true, rangeTime(kubo)},
		{"memory-mail-embedded", "peak memory of a mail of " + bytesOf(s.huge) + ", embedded", mib, atMost(64), false, mailMemory(embedded)},
		{"memory-mail-kubo", "the same, kubo", mib, atMost(64), true, mailMemory(kubo)},
		{"memory-parallel", "peak memory of 40 mails of " + bytesOf(s.parallel) + " together, embedded", mib, atMost(256), false, parallelMemory},
		{"memory-download", "peak memory of a download of " + bytesOf(s.huge) + ", embedded", mib, atMost(48), false, downloadMemory},
		{"growth-size", "time per byte at " + bytesOf(s.huge) + "; at " + bytesOf(s.huge/64) + " (embedded)", "ns", atMost(1.1), false, growthOfSize},
		{"growth-objects", fmt.Sprintf("time per mail with %d stored objects; with none (embedded)", s.objects), ms, atMost(1.1), false, growthOfObjects},
		{"start", "start of the process to its first mail accepted", ms, atMost(100), false, startTime},
	})
}

func selectRows(all []row, names *regexp.Regexp) []row {
	return slices.DeleteFunc(all, func(r row) bool { return !names.MatchString(r.name) })
}

// bytesOf returns a size in words: in GiB or MiB if it is a whole number of them.
func bytesOf(n int64) string {
	switch {
	case n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1e6:
		return fmt.Sprintf("%g MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%g KB", float64(n)/1e3)
}
