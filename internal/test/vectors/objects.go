package vectors

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

var hello = []byte("Hello, Detach!\n")

// objects returns the object vectors by name. The numbers only sort them.
func objects() map[string]Object {
	out := make(map[string]Object)
	addGood(out)
	addLinks(out, out["01-split"])
	addDamaged(out, out["01-split"])
	addEnded(out)
	addExtended(out)
	addMalformed(out)
	addForeign(out)
	addEncoded(out)
	return out
}

func addGood(out map[string]Object) {
	m := newMaker()
	out["01-split"] = m.vector("The worked example: split keys, an epoch of a month, no end.", hello)
	out["03-empty"] = m.vector("An attachment of no bytes.", []byte{})
	m.link = true
	out["02-link"] = m.vector(`Mode "link": the share is zero, the fragment is the key.`, hello)
	m = newMaker()
	m.keys = dayKey
	v := m.vector("Ends with 22 December; one second is left.", hello)
	v.Now = v.Expires.Add(-time.Second)
	out["04-before-expiry"] = v
	v.Now, v.Comment = *v.Expires, "Ended at this very second: the day is over."
	out["05-expired"] = v.refused("expired").client()
	m = newMaker()
	m.extra = map[string][]byte{"escrow.age": escrow()}
	v = m.vector("The key is sealed for an escrow recipient, too.", hello)
	v.Identity = escrowIdentity
	out["06-escrow"] = v
}

func addLinks(out map[string]Object, split Object) {
	at, size := strings.Index(split.Link, "#"), len(split.Link)
	for name, c := range map[string]struct{ comment, link, expect string }{
		"07-wrong-key":        {"The fragment of another attachment.", split.Link[:at] + out["03-empty"].Link[at:], "wrong key"},
		"08-fragment-cut":     {"The fragment was cut.", split.Link[:size-6], "incomplete"},
		"09-fragment-missing": {"The fragment is missing.", split.Link[:at], "incomplete"},
		"10-fragment-invalid": {"A digit that base58btc lacks.", split.Link[:size-1] + "0", "invalid"},
	} {
		v := split
		v.Comment, v.Link = c.comment, c.link
		out[name] = v.refused(c.expect).client()
	}
}

// addDamaged adds stores that have lost or altered a block.
func addDamaged(out map[string]Object, split Object) {
	for i, name := range []string{"11-data-altered", "12-meta-altered-in-store", "13-origin-altered-in-store", "14-directory-altered"} {
		v := split
		v.Comment, v.Blocks = "The store gives a block with one bit flipped.", slices.Clone(v.Blocks)
		v.Blocks[i].Data = bytes.Clone(v.Blocks[i].Data)
		v.Blocks[i].Data[5] ^= 1
		out[name] = v.refused("damaged").client()
	}
	for i, name := range []string{"15-data-missing", "16-meta-missing-in-store", "17-origin-missing-in-store"} {
		v := split
		v.Comment, v.Blocks = "The store lacks a block.", slices.Delete(slices.Clone(v.Blocks), i, i+1)
		out[name] = v.refused("not found").client()
	}
}

// addEnded adds objects that were destroyed or denied, alone or with their epoch, and neighbours.
func addEnded(out map[string]Object) {
	split := newMaker().vector("", hello)
	o := newMaker().seal(hello)
	core, epoch := pathOf(o.core), monthKey.epoch()
	mark := "destroyed/" + epoch + "/"
	put := func(name, comment string, ring map[string]Hex, denied, expect string) {
		v := split
		v.Comment, v.Keyring, v.Denied = comment, ring, denied
		if expect != "ok" {
			v = v.refused(expect)
		}
		out[name] = v
	}
	with := func(k keyFile, file string) map[string]Hex {
		ring := keyring(k)
		ring[file] = Hex{}
		return ring
	}
	put("20-punctured", "The leaf was destroyed: the mark stands, and the key file is punctured.", with(monthKey.without(core), mark+text(o.core)), "", "destroyed")
	put("21-punctured-without-mark", "The key file is punctured, and the mark was lost.", keyring(monthKey.without(core)), "", "destroyed")
	put("22-marked", "The mark stands, and the key file is an older, whole copy.", with(monthKey, mark+text(o.core)), "", "destroyed")
	put("23-merged-punctures", "Two punctured copies were merged: one has lost this leaf, the other its neighbour.", keyring(monthKey.without(core, core^1)), "", "destroyed")
	put("24-neighbours-punctured", "The leaves beside it were destroyed, left and right, near and far.", keyring(monthKey.without(core^1, core+1, core-1, core^1<<63, 0, ^path(0))), "", "ok")
	put("25-epoch-destroyed", "The whole epoch was destroyed. The ledger still has the object.", map[string]Hex{mark + "all": {}}, "", "destroyed")
	put("26-epoch-destroyed-key-restored", "The whole epoch was destroyed, and a backup brought its key file back.", with(monthKey, mark+"all"), "", "destroyed")
	put("27-epoch-destroyed-not-indexed", "The whole epoch was destroyed, and the ledger lacks the object: nothing says that it was ours.", map[string]Hex{mark + "all": {}}, "", "foreign")
	put("28-no-key", "No key file of the epoch, and the ledger lacks the object: nothing says that it is ours.", map[string]Hex{}, "", "foreign")
	put("29-key-missing", "No key file of the epoch, and the ledger has the object: the key file is missing.", map[string]Hex{}, "", "key missing")
	for _, name := range []string{"25-epoch-destroyed", "26-epoch-destroyed-key-restored", "29-key-missing"} {
		v := out[name]
		v.Indexed = true
		out[name] = v
	}
	put("19-two-keyrings", "The keyrings of two machines: both have a key file of this month.", keyring(monthKey, otherKey, dayKey), "", "ok")

	line := func(verb, at string) string {
		return fmt.Sprintf("%s %s %s %s %s\n", text(o.root), text(o.core), epoch, verb, at)
	}
	deny, undo := line("deny", "2026-11-22T20:01:00Z"), line("undo", "2026-11-22T20:02:00Z")
	put("30-revoked", "Revoked.", keyring(monthKey), deny, "revoked")
	put("31-undone", "Revoked, and undone a minute later. The lists of two machines were merged: the lines are not in order.", keyring(monthKey), undo+deny, "ok")
	put("32-tie", "Revoked and undone in the same second: denied.", keyring(monthKey), deny+line("undo", "2026-11-22T20:01:00Z"), "revoked")
	put("33-denied-by-link", "The operator has pasted the link, without its fragment.", keyring(monthKey), strings.Split(split.Link, "#")[0]+" # asked for by telephone\n", "revoked")

	m := newMaker()
	m.link = true
	v := m.vector(`Mode "link": destroying ends serving.`, hello)
	v.Keyring = keyring(monthKey.without(pathOf(m.seal(hello).core)))
	out["34-link-destroyed"] = v.refused("destroyed")
}

// addExtended adds objects that live longer than their epoch, by a record under a later one.
func addExtended(out map[string]Object) {
	for name, link := range map[string]bool{"35-extended": false, "36-extended-link": true} {
		m := newMaker()
		m.keys, m.link = dayKey, link
		v := m.vector("Extended to another epoch; its own is over and its key file is gone.", hello)
		o := m.seal(hello)
		v.Now, v.Expires = time.Date(2027, 1, 15, 0, 0, 0, 0, time.UTC), laterKey.endTime()
		v.Keyring = keyring(laterKey)
		file := "extended/" + laterKey.epoch() + "/" + text(o.core)
		v.Keyring[file] = extend(laterKey, o, dayKey.epoch(), link)
		out[name] = v
		if link {
			continue
		}
		v.Comment, v.Now = "Extended, and that end has come, too.", *v.Expires
		out["37-extended-expired"] = v.refused("expired")
		v.Comment, v.Now = "Extended, and destroyed: the record is gone, and both key files are punctured.", now
		v.Keyring = keyring(dayKey.without(pathOf(o.core)), laterKey.without(pathOf(o.core)))
		out["38-extended-destroyed"] = v.refused("destroyed")
	}
}

// extend returns the record that extends an object to the epoch of to.
func extend(to keyFile, o made, old string, link bool) []byte {
	mode := []byte{0}
	if link {
		mode[0] = 1
	}
	key := derive(leaf(to.root, pathOf(o.core)), "detach/v1 extend", o.core)
	nonce, aad := sequence(0xd0, 12), join(o.root, []byte(old), []byte{0}, []byte(to.epoch()), mode)
	head := join(o.root, []byte{byte(len(old))}, []byte(old), mode)
	return join(head, nonce, gcm(key).Seal(nil, nonce, o.share, aad))
}

// addMalformed adds objects whose blocks match their CIDs but whose maker breaks the format.
func addMalformed(out map[string]Object) {
	put := func(name, comment string, change func(*maker)) {
		m := newMaker()
		change(&m)
		out[name] = m.vector(comment, hello).refused("malformed").client()
	}
	for name, h := range map[string]string{
		"40-kid-path":        header("../x"),
		"41-kid-missing":     `{"alg":"dir","enc":"A256GCM"}`,
		"42-zip":             `{"alg":"dir","enc":"A256GCM","kid":"` + monthKey.epoch() + `","zip":"DEF"}`,
		"43-alg-none":        `{"alg":"none","enc":"A256GCM","kid":"` + monthKey.epoch() + `"}`,
		"44-kid-old-form":    header("2026-11"),
		"58-kid-twice":       `{"alg":"dir","enc":"A256GCM","kid":"` + dayKey.epoch() + `","kid":"` + monthKey.epoch() + `"}`,
		"59-kid-in-capitals": `{"alg":"dir","enc":"A256GCM","KID":"` + monthKey.epoch() + `"}`,
	} {
		put(name, "The header is "+h, func(m *maker) { m.header = h })
	}
	put("45-encrypted-key", "The JWE has an encrypted key, which dir does not have.", func(m *maker) {
		m.alterJWE = func(jwe string) string { return strings.Replace(jwe, "..", ".AAAA.", 1) }
	})
	put("46-size", "data is a byte longer than the metadata says.", func(m *maker) { m.meta = map[string]any{"size": len(hello) - 1} })
	put("47-further-entry", "The directory has another entry.", func(m *maker) { m.extra = map[string][]byte{"more": []byte("x")} })
	put("48-origin-missing", "There is no origin.", func(m *maker) { m.without = "origin" })
	put("49-data-missing", "There is no data.", func(m *maker) { m.without = "data" })
	put("50-origin-short", "origin has 95 bytes.", func(m *maker) { m.origin = make([]byte, 95) })
	put("51-order", "The root was wrapped anew: its links are in another order.", func(m *maker) {
		m.links = func(l []link) []link { slices.Reverse(l); return l }
	})
	put("52-repeated-entry", "The root was wrapped anew: data stands twice.", func(m *maker) {
		m.links = func(l []link) []link { return slices.Insert(l, 0, l[0]) }
	})
	put("53-origin-tsize", "The root was wrapped anew: the link to origin has another size, which core does not show.", func(m *maker) {
		m.links = func(l []link) []link { l[len(l)-1].tsize++; return l }
	})
	put("55-mtime", "The root was wrapped anew: the directory has a time.", func(m *maker) {
		m.root = func(block []byte) []byte {
			at := bytes.LastIndex(block, []byte{0x0a, 0x02, 0x08, 0x01})
			return join(block[:at], bytesField(1, join(numbers(1, 1), bytesField(8, numbers(1, 1700000000)))))
		}
	})
	put("56-varint", "The root was wrapped anew: a number has a needless byte.", func(m *maker) {
		m.root = func(block []byte) []byte { return join(block[:len(block)-3], []byte{0x82, 0x00, 0x08, 0x01}) }
	})
	put("57-escrow-long", "escrow.age is too long.", func(m *maker) { m.extra = map[string][]byte{"escrow.age": make([]byte, 8<<10+1)} })
	m := newMaker()
	wrapped := m.seal(hello)
	out["54-origin-wrapped"] = wrapOrigin(m.vector("The root was wrapped anew: origin is the same bytes under a node.", hello), wrapped).refused("malformed").client()
}

// wrapOrigin puts a node above the leaf of origin. The core stays.
func wrapOrigin(v Object, o made) Object {
	b := blocks(slices.Clone(v.Blocks[:len(v.Blocks)-1]))
	leaf := link{"", cidOf(raw, o.origin), 96, 96}
	node := b.interior("origin", []link{leaf})
	node.tsize = 96
	data := link{"data", cidOf(raw, v.Blocks[0].Data), 0, uint64(len(v.Blocks[0].Data))}
	meta := link{"meta.jwe", cidOf(raw, o.jwe), 0, uint64(len(o.jwe))}
	o.root = b.add(dagPB, directory([]link{data, meta, node}))
	v.Blocks, v.Link = b, linkTo(o)
	return v
}

// addForeign adds objects of the right form that the keyring's owner has not made, or not so.
func addForeign(out map[string]Object) {
	right := newMaker().seal(hello)
	put := func(name, comment, expect string, change func(*maker)) {
		m := newMaker()
		change(&m)
		v := m.vector(comment, hello)
		v.Keyring = keyring(monthKey, otherKey, dayKey)
		v = v.refused(expect)
		v.Client = expect == "wrong key"
		out[name] = v
	}
	put("60-other-installation", "An object of another installation, with a right origin of its own.", "foreign", func(m *maker) { m.keys = laterKey })
	put("61-other-secret", "The epoch is ours, the origin is made with another secret.", "foreign", func(m *maker) { m.service = sequence(0x11, 32) })
	put("62-origin-changed", "A bit of the origin's code is flipped.", "foreign", func(m *maker) {
		m.origin = bytes.Clone(right.origin)
		m.origin[95] ^= 1
	})
	put("63-ask-changed", "A bit of ask is flipped.", "foreign", func(m *maker) {
		m.origin = bytes.Clone(right.origin)
		m.origin[0] ^= 1
	})
	put("64-tsize", "A holder of the key has wrapped our files anew, with our origin: the link to data has another size.", "foreign", func(m *maker) {
		m.links = func(l []link) []link { l[0].tsize++; return l }
	})
	put("65-meta-foreign", "Our data and origin beside a meta.jwe under another key.", "foreign", func(m *maker) {
		m.origin = right.origin
		other := newMaker()
		other.key = sequence(0x20, 32)
		m.alterJWE = func(string) string { return string(other.seal(hello).jwe) }
	})
	put("66-mode-swap", "A holder of the key has sealed the metadata anew, with the other mode.", "foreign", func(m *maker) { m.link, m.origin = true, right.origin })
	put("67-cross-epoch", "The same with another epoch of ours.", "foreign", func(m *maker) { m.origin, m.header = right.origin, header(dayKey.epoch()) })
	put("68-cross-epoch-origin", "The kid names another epoch than that whose secret made the origin.", "foreign", func(m *maker) { m.service = otherKey.service })
	put("70-wrong-ask", "The origin is ours, its ask is that of another fragment.", "wrong key", func(m *maker) { m.ask = sum(sequence(0, 32)) })
	put("71-wrong-commit", "The origin is ours, its commit is that of another key.", "wrong key", func(m *maker) { m.commit = derive(sequence(1, 32), "detach/v1 commit", right.core) })
	put("72-meta-flipped", "A character of the sealed metadata was changed before it was stored.", "wrong key", func(m *maker) {
		m.alterJWE = func(jwe string) string {
			at := strings.LastIndex(jwe, ".") - 9
			return jwe[:at] + string(jwe[at]^1) + jwe[at+1:]
		}
	})
}

func addEncoded(out map[string]Object) {
	for name, c := range map[string]struct{ comment, encoded, expect string }{
		"80-encoded":         {"The object has the attachment as its mail had it, too.", "Hello,= \r\n=20Detach=21=0a", "ok"},
		"81-encoded-other":   {"The encoded form is that of other bytes.", "Hello,= \r\n=20Detach=3f=0a", "malformed"},
		"82-encoded-short":   {"The encoded form ends early.", "Hello,= \r\n=20Detach=21", "malformed"},
		"83-encoded-long":    {"The encoded form is longer than the attachment.", "Hello,= \r\n=20Detach=21=0a!", "malformed"},
		"84-encoded-damaged": {"Mail programs differ about the encoded form: it has a blank at the end of a line.", "Hello,=20Detach=21=0a \r\n", "malformed"},
	} {
		m := newMaker()
		m.encoded = []byte(c.encoded)
		v := m.vector(c.comment, hello)
		v.Encoded, v.ExpectEncoded = m.encoded, c.expect
		out[name] = v
	}
	m := newMaker()
	m.encoded = []byte("Hello,= \r\n=20Detach=21=0a")
	m.extra = map[string][]byte{"more": []byte("x")}
	out["85-encoded-and-more"] = m.vector("The directory has a further entry beside encoded.", hello).refused("malformed").client()
}

// Keystream is 32 bytes of the key stream at offsets.
type Keystream struct {
	Key     Hex      `json:"key"`
	Streams []Stream `json:"streams"`
}

// Stream is the key stream from one offset.
type Stream struct {
	Offset int64 `json:"offset"`
	Bytes  Hex   `json:"bytes"`
}

func keystream() Keystream {
	v := Keystream{Key: sequence(0x00, 32)}
	for _, offset := range []int64{0, 1, 15, 16, 17, 1 << 20, 16<<32 - 16, 16<<32 - 1, 16 << 32, 16<<32 + 5} {
		var blocks []byte
		for i := range uint64(3) {
			counter := binary.BigEndian.AppendUint64(make([]byte, 8), uint64(offset/16)+i)
			blocks = append(blocks, encryptBlock(v.Key, counter)...)
		}
		v.Streams = append(v.Streams, Stream{offset, blocks[offset%16:][:32]})
	}
	return v
}

// DataSizes are the CIDs of data for attachments of zero bytes.
type DataSizes struct {
	Key   Hex        `json:"key"`
	Files []DataSize `json:"files"`
}

// DataSize is the CID for one size.
type DataSize struct {
	Size int64  `json:"size"`
	CID  string `json:"cid"`
}

func dataSizes() DataSizes {
	v := DataSizes{Key: sequence(0x00, 32)}
	for _, size := range []int64{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 77} {
		var b blocks
		v.Files = append(v.Files, DataSize{size, text(b.file("data", ctr(v.Key, make([]byte, size))).cid)})
	}
	return v
}

// Split returns the worked example with other content.
func Split(content []byte) Object { return newMaker().vector("", content) }

// CIDBytes returns the 36 bytes of a CID.
func CIDBytes(text string) []byte {
	return have(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(text[1:])))
}
