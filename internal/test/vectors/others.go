package vectors

import (
	"crypto/aes"
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"strings"
	"time"
)

func encryptBlock(key, block []byte) []byte {
	out := make([]byte, aes.BlockSize)
	have(aes.NewCipher(key)).Encrypt(out, block)
	return out
}

// KID has values of kid.
type KID struct {
	Valid   []ValidKID `json:"valid"`
	Invalid []string   `json:"invalid"`
}

// ValidKID is a kid and what it says.
type ValidKID struct {
	KID   string     `json:"kid"`
	Epoch string     `json:"epoch"`
	Link  bool       `json:"link"`
	Ends  *time.Time `json:"ends"` // null: never
}

func kids() KID {
	day := func(year, month, day int) *time.Time {
		t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
		return &t
	}
	return KID{
		[]ValidKID{
			{"2026-11.k7d2qawm", "2026-11.k7d2qawm", false, nil},
			{"2026-11.k7d2qawm.link", "2026-11.k7d2qawm", true, nil},
			{"2026-11-22.k7d2qawm", "2026-11-22.k7d2qawm", false, day(2026, 11, 23)},
			{"2026-12-31.aaaaaaaa.link", "2026-12-31.aaaaaaaa", true, day(2027, 1, 1)},
			{"2024-02-29.77777777", "2024-02-29.77777777", false, day(2024, 3, 1)},
		},
		[]string{
			"", "../x", "..", "/etc/passwd", "link", "2026-11", "2026-11-22", "2026-11.", "2026-11.link", "k7d2qawm", ".k7d2qawm",
			"2026-11/../x", "2026.k7d2qawm", "2026-1.k7d2qawm", "2026-13.k7d2qawm", "2026-11-31.k7d2qawm", "2025-02-29.k7d2qawm",
			"0000-00.k7d2qawm", "2026-11-22 .k7d2qawm", "2026-11.k7d2qaw", "2026-11.k7d2qawmm", "2026-11.K7D2QAWM", "2026-11.k7d2qaw1",
			"2026-11.k7d2qaw=", "2026-11.k7d2qawm.LINK", "2026-11.k7d2qawm.split", "2026-11.k7d2qawm.link.link", "2026-11.k7d2qawm.",
			"2026-11.k7d2qawm.key", "2026-11.k7d2qawm\x00", "2026-11.k7d2qawm\n", "٢٠٢٦-11.k7d2qawm",
		},
	}
}

// Ticket is a ticket of one download. Expect is "ok" or "refused".
type Ticket struct {
	Comment  string    `json:"comment"`
	Expect   string    `json:"expect"`
	Epoch    string    `json:"epoch"`
	KeyFile  Hex       `json:"key_file"`
	Now      time.Time `json:"now"`
	CID      string    `json:"cid"`
	Fragment string    `json:"fragment"`
	Until    time.Time `json:"until"`
	Ticket   string    `json:"ticket"`
}

func tickets(split Object) []Ticket {
	head, fragment, _ := strings.Cut(strings.TrimPrefix(split.Link, "https://files.example.org/"), "#")
	o := newMaker().seal(hello)
	until := now.Add(8 * time.Hour)
	seal := func(day string) string {
		nonce, plain := sequence(0xb0, 12), binary.BigEndian.AppendUint64(join(o.fragment), uint64(until.Unix()))
		key := derive(monthKey.service, "detach/v1 ticket", []byte(day))
		return monthKey.epoch() + "." + day + "." + b64(gcm(key).Seal(nonce, nonce, plain, o.root))
	}
	good := seal("2026-11-22")
	make := func(comment, expect, ticket string, at time.Time) Ticket {
		return Ticket{comment, expect, monthKey.epoch(), monthKey.encode(), at, head, fragment, until, ticket}
	}
	return []Ticket{
		make("one second is left: the next day has begun", "ok", good, until.Add(-time.Second)),
		make("at its end", "refused", good, until),
		make("the day in its name is another", "refused", strings.Replace(good, "-22.", "-21.", 1), now),
		make("a day that does not exist", "refused", strings.Replace(good, "11-22.", "11-31.", 1), now),
		make("another epoch", "refused", strings.Replace(good, monthKey.epoch(), dayKey.epoch(), 1), now),
		make("a character is changed", "refused", good[:len(good)-9]+string(good[len(good)-9]^1)+good[len(good)-8:], now),
		make("no day", "refused", strings.Replace(good, "2026-11-22.", "", 1), now),
	}
}

// Extension is a record that extends an object. Expect is "ok" or "refused".
type Extension struct {
	Comment string `json:"comment"`
	Expect  string `json:"expect"`
	New     string `json:"new"` // the later epoch
	KeyFile Hex    `json:"key_file"`
	Root    string `json:"root"`
	Core    string `json:"core"`
	Old     string `json:"old"`
	Link    bool   `json:"link"`
	Share   string `json:"share"`
	Record  Hex    `json:"record"`
}

func extensions() []Extension {
	m := newMaker()
	m.keys = dayKey
	o := m.seal(hello)
	good := extend(laterKey, o, dayKey.epoch(), false)
	make := func(comment, expect string, record []byte) Extension {
		return Extension{comment, expect, laterKey.epoch(), laterKey.encode(), text(o.root), text(o.core), dayKey.epoch(), false, multibase(o.share), record}
	}
	changed := func(at int) []byte {
		b := join(good)
		b[at] ^= 1
		return b
	}
	mode := 36 + 1 + len(dayKey.epoch())
	m.link = true
	inLink := m.seal(hello)
	link := make("mode link", "ok", extend(laterKey, inLink, dayKey.epoch(), true))
	link.Root, link.Core, link.Link, link.Share = text(inLink.root), text(inLink.core), true, multibase(inLink.share)
	otherNew := make("the record of another epoch, renamed", "refused", good)
	otherNew.New, otherNew.KeyFile = monthKey.epoch(), monthKey.encode()
	otherCore := make("the record of another object, renamed", "refused", good)
	otherCore.Core = text(newMaker().seal(hello).core)
	punctured := make("the later epoch's key file is punctured at this core", "refused", good)
	punctured.KeyFile = laterKey.without(pathOf(o.core)).encode()
	return []Extension{
		make("mode split", "ok", good), link, otherNew, otherCore, punctured,
		make("it names another old epoch than the object does", "refused", extend(laterKey, o, monthKey.epoch(), false)),
		make("the root is changed", "refused", changed(20)),
		make("the old epoch is changed", "refused", changed(40)),
		make("the mode is changed", "refused", changed(mode)),
		make("a mode that does not exist", "refused", join(good[:mode], []byte{2}, good[mode+1:])),
		make("the tag is changed", "refused", changed(len(good)-1)),
		make("a byte is missing", "refused", good[:len(good)-1]),
		make("a byte too many", "refused", join(good, []byte{0})),
		make("empty", "refused", nil),
	}
}

// DenyList is a file denied and what it means for the object of the worked example.
type DenyList struct {
	Comment string `json:"comment"`
	Text    string `json:"text"`
	CID     string `json:"cid"`
	Denied  bool   `json:"denied"`
	Bad     []int  `json:"bad"` // the numbers of the lines that must be reported
}

func denyLists() []DenyList {
	o := newMaker().seal(hello)
	cid, base := text(o.root), "https://files.example.org/"
	line := func(verb, at string) string {
		return strings.Join([]string{cid, text(o.core), monthKey.epoch(), verb, at}, " ") + "\n"
	}
	const one, two = "2026-11-22T20:01:00Z", "2026-11-22T20:02:00Z"
	other := strings.ReplaceAll(line("deny", one), cid, text(o.core))
	make := func(comment, list string, denied bool, bad ...int) DenyList {
		return DenyList{comment, list, cid, denied, append([]int{}, bad...)}
	}
	return []DenyList{
		make("empty", "", false),
		make("denied", line("deny", one), true),
		make("denied, then undone", line("deny", one)+line("undo", two), false),
		make("the same in the other order, as after merging", line("undo", two)+line("deny", one), false),
		make("denied, undone, denied again", line("deny", one)+line("undo", two)+line("deny", "2026-11-22T20:03:00Z"), true),
		make("a tie denies", line("deny", one)+line("undo", one), true),
		make("a line that stands twice", line("deny", one)+line("deny", one)+line("undo", two), false),
		make("another object's", other, false),
		make("a CID", cid+"\n", true),
		make("a CID is not undone by a line with a time", cid+"\n"+line("deny", one)+line("undo", two), true),
		make("a link, with a comment", "# asked for by telephone\n"+base+cid+" # urgent\n", true),
		make("the last line has no newline", line("deny", one)+cid, true),
		make("lines end in CRLF", strings.ReplaceAll(line("deny", one), "\n", "\r\n"), true),
		make("a line without a CID is reported, the others are obeyed", "what is this\n"+line("deny", one), true, 1),
	}
}

// Link is a text that people paste, and how it parses.
type Link struct {
	Comment  string `json:"comment"`
	In       string `json:"in"`
	Expect   string `json:"expect"`
	Base     string `json:"base,omitempty"`
	CID      string `json:"cid,omitempty"`
	Fragment string `json:"fragment,omitempty"`
	All      bool   `json:"all,omitempty"`
}

func links(split string) []Link {
	const base = "https://files.example.org"
	head, fragment, _ := strings.Cut(split, "#")
	id := strings.TrimPrefix(head, base+"/")
	digest := newMaker().seal(hello).root[2:]
	good := func(comment, in string) Link { return Link{comment, in, "ok", base, id, fragment, false} }
	all := func(comment, in string) Link {
		v := good(comment, in)
		v.All = true
		return v
	}
	return []Link{
		good("as it is written", split),
		good("# encoded", head+"%23"+fragment),
		good("# encoded twice", head+"%2523"+fragment),
		good("# as an HTML entity, escaped again", head+"&amp;#35;"+fragment),
		good("a tracker's parameters", head+"?utm_source=a&amp;utm_medium=b#"+fragment),
		good("angle brackets", "<"+split+">"),
		good("a sentence around it", "(see "+split+")."),
		good("upper-cased scheme and host", strings.Replace(split, "https://files.example.org", "HTTPS://FILES.EXAMPLE.ORG", 1)),
		good("wrapped, as quoted-printable does", split[:76]+"=\r\n"+split[76:]),
		good("wrapped and quoted in a reply", "> "+split[:60]+"\r\n> "+split[60:]),
		good("wrapped and indented", split[:100]+"\n    "+split[100:]),
		good("another link appended, as on our pages", split+"."+id+"."+fragment),
		all("all files, as it is written", head+"/all#"+fragment),
		all("all files, # encoded", head+"/all%23"+fragment),
		all("all files, wrapped before the last slash", head+"\n/all#"+fragment),
		good("wrapped by Microsoft Safe Links", "https://eur02.safelinks.protection.outlook.com/?url="+url.QueryEscape(split)+"&data=05%7C02&sdata=x%3D&reserved=0"),
		good("wrapped by Proofpoint URL Defense 2", "https://urldefense.proofpoint.com/v2/url?u="+strings.NewReplacer(":", "-3A", "/", "_", "#", "-23").Replace(split)+"&d=DwMFaQ&c=x&r=x&m=x&s=x&e="),
		good("wrapped by Proofpoint URL Defense 3", "https://urldefense.com/v3/__"+strings.Replace(split, "#", "*", 1)+"__;Iw!!x!x$"),
		good("wrapped by Check Point, the fragment at the end", "https://url.avanan.click/v2/r01/___"+head+"___.YXAzOng#"+fragment),
		good("wrapped by Sophos, in base64", "https://eu-central-1.protection.sophos.com/?d=example.org&u="+base64.URLEncoding.EncodeToString([]byte(split))+"&p=m&i=x&t=x&h=x"),
		good("wrapped twice", "https://eur02.safelinks.protection.outlook.com/?url="+url.QueryEscape("https://linkprotect.cudasvc.com/url?a="+url.QueryEscape(split)+"&c=E,1,x&typo=1")+"&data=05%7C02"),
		{Comment: "wrapped, no fragment", In: "https://eur02.safelinks.protection.outlook.com/?url=" + url.QueryEscape(head) + "&data=05%7C02", Expect: "incomplete"},
		{Comment: "replaced by Mimecast: only its server knows the link", In: "https://protect-eu.mimecast.com/s/rADECvZvDhygB3ktQtrXG?domain=files.example.org", Expect: "invalid"},
		{Comment: "all files, no fragment", In: head + "/all", Expect: "incomplete"},
		{Comment: "all files, cut in all", In: head + "/al", Expect: "incomplete"},
		{Comment: "something else after the CID", In: head + "/data#" + fragment, Expect: "invalid"},
		{Comment: "no fragment", In: head, Expect: "incomplete"},
		{Comment: "fragment cut", In: split[:len(split)-4], Expect: "incomplete"},
		{Comment: "cut in the CID", In: head[:len(head)-9], Expect: "incomplete"},
		{Comment: "fragment upper-cased", In: head + "#" + strings.ToUpper(fragment), Expect: "invalid"},
		{Comment: "fragment too long", In: split + "22", Expect: "invalid"},
		{Comment: "raw CID", In: base + "/" + text(join([]byte{1, raw}, digest)) + "#" + fragment, Expect: "invalid"},
		{Comment: "CIDv0", In: base + "/" + multibase(digest)[1:] + "#" + fragment, Expect: "invalid"},
		{Comment: "user information", In: strings.Replace(split, "//", "//user@", 1), Expect: "invalid"},
		{Comment: "another scheme", In: strings.Replace(split, "https", "ftp", 1), Expect: "invalid"},
	}
}

// DAGJOSE is a meta.jwe and the DAG-JOSE block of the same JWE. The key is that of the JWE.
type DAGJOSE struct {
	MetaJWE string `json:"meta_jwe"`
	Key     Hex    `json:"key"`
	Block   Hex    `json:"block"`
	CID     string `json:"cid"`
}

// dagJOSE encodes the block as DAG-CBOR: a map, the shorter names first.
func dagJOSE(v Object) DAGJOSE {
	const codec = 0x85 // in a CID it takes two bytes
	parts := strings.Split(v.MetaJWE, ".")
	block := []byte{0xa4}
	for _, member := range []struct{ name, part string }{{"iv", parts[2]}, {"tag", parts[4]}, {"protected", parts[0]}, {"ciphertext", parts[3]}} {
		value := have(base64.RawURLEncoding.DecodeString(member.part))
		block = join(block, []byte{0x60 | byte(len(member.name))}, []byte(member.name), byteString(value))
	}
	cid := join([]byte{1, codec, 1, 0x12, 0x20}, sum(block))
	return DAGJOSE{v.MetaJWE, derive(v.Key, "detach/v1 meta"), block, text(cid)}
}

// byteString is a byte string of CBOR (RFC 8949 section 3.1) of less than 64 KiB.
func byteString(b []byte) []byte {
	switch n := len(b); {
	case n < 24:
		return join([]byte{0x40 | byte(n)}, b)
	case n < 256:
		return join([]byte{0x58, byte(n)}, b)
	default:
		return join(binary.BigEndian.AppendUint16([]byte{0x59}, uint16(n)), b)
	}
}
