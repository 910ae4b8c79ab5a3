package vectors

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Object is an object-*.json: what a gateway has and gets, and what comes of it.
type Object struct {
	Comment string    `json:"comment"`
	Expect  string    `json:"expect"`
	Link    string    `json:"link"`
	Now     time.Time `json:"now"`
	// Keyring has the content of each file in the folder keys, by its path there.
	Keyring map[string]Hex `json:"keyring"`
	Denied  string         `json:"denied,omitempty"`  // the file of this name
	Indexed bool           `json:"indexed,omitempty"` // the ledger has the object
	Blocks  []Block        `json:"blocks"`            // what the store gives for each CID
	// Client says that a decoder that has the share in place of the keyring refuses the object with
	// the same outcome: the keyring proves nothing about this mistake.
	Client bool `json:"client,omitempty"`

	Share string `json:"share,omitempty"` // B, if the link is one
	// The following say how an object opens. An object that does not open has none of them.
	Core       string          `json:"core,omitempty"`
	Origin     Hex             `json:"origin,omitempty"`
	Proof      string          `json:"proof,omitempty"`
	Key        Hex             `json:"key,omitempty"`
	MetaJWE    string          `json:"meta_jwe,omitempty"`
	Meta       json.RawMessage `json:"meta,omitempty"`
	Expires    *time.Time      `json:"expires,omitempty"` // the present end; missing: never
	Attachment []byte          `json:"attachment"`
	// Encoded is the plaintext of the entry "encoded". ExpectEncoded says what opening it gives, if
	// the object opens.
	Encoded       []byte `json:"encoded,omitempty"`
	ExpectEncoded string `json:"expect_encoded,omitempty"`
	// Identity opens escrow.age.
	Identity string `json:"identity,omitempty"`
}

// maker builds an object. Its fields are the mistakes that it can make.
type maker struct {
	key      []byte
	keys     keyFile
	link     bool           // mode "link"
	header   string         // of meta.jwe, instead of the usual one
	meta     map[string]any // members instead of the usual ones
	alterJWE func(string) string
	extra    map[string][]byte // further entries
	encoded  []byte            // the plaintext of the entry
	origin   []byte            // instead of the right one
	service  []byte            // of the secret that the origin is made with
	ask      []byte            // instead of the right one
	commit   []byte
	without  string              // an entry that is left out
	links    func([]link) []link // of the root, changed
	root     func([]byte) []byte // the root's block, changed
}

func newMaker() maker { return maker{key: sequence(0x00, 32), keys: monthKey} }

// made is an object and what it is made of.
type made struct {
	root, core, jwe, meta []byte
	share, fragment       []byte
	proof, origin         []byte
	blocks                blocks
}

func (m maker) kid() string {
	if m.link {
		return m.keys.epoch() + ".link"
	}
	return m.keys.epoch()
}

// end returns when the epoch ends: the first moment after its day, or nil.
func (k keyFile) endTime() *time.Time {
	day, err := time.Parse(time.DateOnly, k.end)
	if err != nil {
		return nil
	}
	day = day.AddDate(0, 0, 1)
	return &day
}

func (m maker) metadata(content []byte) []byte {
	type meta struct {
		Name    string     `json:"name"`
		Type    string     `json:"type"`
		Size    int        `json:"size"`
		SHA256  string     `json:"sha256"`
		Created time.Time  `json:"created"`
		Expires *time.Time `json:"expires"`
	}
	v := meta{"grüße.txt", "text/plain", len(content), hex.EncodeToString(sum(content)), now, m.keys.endTime()}
	check(json.Unmarshal(have(json.Marshal(m.meta)), &v))
	return have(json.Marshal(v))
}

func check(err error) { have(0, err) }

// seal makes the object.
func (m maker) seal(content []byte) (o made) {
	o.meta = m.metadata(content)
	jwe := sealJWE(m.key, cmp.Or(m.header, header(m.kid())), o.meta)
	if m.alterJWE != nil {
		jwe = m.alterJWE(jwe)
	}
	o.jwe = []byte(jwe)
	links := m.entries(&o, content)
	o.core = cidOf(dagPB, directory(links))
	o.share = make([]byte, 32)
	if !m.link {
		o.share = derive(leaf(m.keys.root, pathOf(o.core)), "detach/v1 share", o.core)
	}
	o.fragment = xor(m.key, o.share)
	o.proof = derive(o.fragment, "detach/v1 ask", o.core)
	o.origin = m.makeOrigin(o.proof, o.core)
	if m.without != "origin" {
		links = append(links, o.blocks.file("origin", o.origin))
	}
	if m.links != nil {
		links = m.links(links)
	}
	block := directory(links)
	if m.root != nil {
		block = m.root(block)
	}
	o.root = o.blocks.add(dagPB, block)
	return o
}

// entries adds all files but the origin, sorted by name.
func (m maker) entries(o *made, content []byte) (links []link) {
	files := map[string][]byte{"data": ctr(m.key, content), "meta.jwe": o.jwe}
	if m.encoded != nil {
		files["encoded"] = ctr(derive(m.key, "detach/v1 encoded"), m.encoded)
	}
	maps.Copy(files, m.extra)
	delete(files, m.without)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		links = append(links, o.blocks.file(name, files[name]))
	}
	return links
}

func (m maker) makeOrigin(proof, core []byte) []byte {
	if m.origin != nil {
		return m.origin
	}
	ask, commit, service := sum(proof), derive(m.key, "detach/v1 commit", core), m.keys.service
	if m.ask != nil {
		ask = m.ask
	}
	if m.commit != nil {
		commit = m.commit
	}
	if m.service != nil {
		service = m.service
	}
	return join(ask, commit, mac(derive(service, "detach/v1 origin"), join(core, ask, commit)))
}

// vector returns the vector of an object that opens.
func (m maker) vector(comment string, content []byte) Object {
	o := m.seal(content)
	return Object{
		Comment: comment, Expect: "ok", Link: linkTo(o), Now: now,
		Keyring: keyring(m.keys), Blocks: o.blocks,
		Core: text(o.core), Origin: o.origin, Proof: multibase(o.proof), Share: multibase(o.share), Key: m.key,
		MetaJWE: string(o.jwe), Meta: o.meta, Expires: m.keys.endTime(), Attachment: content,
	}
}

func linkTo(o made) string {
	return "https://files.example.org/" + text(o.root) + "#" + multibase(o.fragment)
}

func keyring(files ...keyFile) map[string]Hex {
	ring := make(map[string]Hex)
	for _, k := range files {
		ring[k.epoch()+".key"] = k.encode()
	}
	return ring
}

// refused returns a vector of an object that does not open, without what only opening could show.
func (v Object) refused(expect string) Object {
	return Object{Comment: v.Comment, Expect: expect, Link: v.Link, Now: v.Now, Keyring: v.Keyring, Denied: v.Denied, Indexed: v.Indexed, Blocks: v.Blocks, Share: v.Share}
}

// client says that a decoder without the keyring refuses the object, too.
func (v Object) client() Object {
	v.Client = true
	return v
}

// Escrow of the key 00 to 1f, made by age 1.3.2 with -r and the recipient
// age1mskv5v0gusammywl7lj8tn9rx3ltg7qs04dawedt5jhy5vxrt4zqpcu8z9.
const (
	escrowIdentity = "AGE-SECRET-KEY-1CRQU9S7YCHRV0JXFET9UENWWELGDR5KN6N2AD47CM8DDHHXAMM0S2L2P3P"
	escrowFile     = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSA4QytnYUVQQnRFVS9FNzBTWjJwWlByS1ltU0JIUXlUNDk1R1NPY2cw" +
		"TkZJCjgwN0ZGQ3A5eGFTNzFwOTN0RGl0aDIrYWlXVnNrbW9qME9xMDB3TEg1Z1kKLS0tIHo4OTVPUU10M0Q4VzZQNkhOVWZCSWpyRjVycW9y" +
		"MDM5N1JDcU5Bd0NGOFkK7C+3y85N16yR/1D79M/LFn+tIKQj5OfclEO4x3bQKvkgUIWwTAnlA8j4pKj1vW1v0nFpTDt7dlzeTqW0XxRSnQ=="
)

func escrow() []byte { return have(base64.StdEncoding.DecodeString(escrowFile)) }
