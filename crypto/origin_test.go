package crypto

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func testCore(t *testing.T, of string) cid.Cid {
	t.Helper()
	sum := sha256.Sum256([]byte(of))
	hash, err := multihash.Encode(sum[:], multihash.SHA2_256)
	must.Succeed(t, err)
	return cid.NewCidV1(cid.DagProtobuf, hash)
}

// The wanted values were computed by Python's hmac and hashlib.
func TestOriginIsAsSpecified(t *testing.T) {
	core := testCore(t, "core")
	if want := "bafybeianix272rrlrryl76yqainmdph7h5mpfgy7v52wqwkqsvbh2qubfq"; core.String() != want {
		t.Fatalf("core: got %s, want %s", core, want)
	}
	service, f, k := ServiceSecret{testSecret(0)}, Fragment{testSecret(64)}, Key{testSecret(96)}
	if got, want := service.ID(), "dl3xa6mq"; got != want {
		t.Errorf("id: got %s, want %s", got, want)
	}
	if got, want := hex.EncodeToString(f.Proof(core).bytes()), "15b98688c79878d275e966a587c4b0b113dd31344ea07cd2bbfe4b4117b15eb7"; got != want {
		t.Errorf("proof: got %s, want %s", got, want)
	}
	o, err := service.SealOrigin(core, f, k)
	must.Succeed(t, err)
	want := "423ca373093afa4320e986f742cd584d481927809128362e2d2ae4e45a2ebc6e" +
		"9fc743f60bfe8d52e0e8601c62f093defc2477b11c6da5d8b7ccd9d90268db83" +
		"8f907f7013629c6895bbff92f14c96e2e8d9ae99992d74ffd18ba5a67a5fa445"
	if hex.EncodeToString(o[:]) != want {
		t.Errorf("origin: got %x, want %s", o, want)
	}
}

func TestOriginBindsCoreLinkAndKey(t *testing.T) {
	faults.Covers(t, 77, 78)
	core, other := testCore(t, "core"), testCore(t, "other")
	service, f, k := ServiceSecret{testSecret(0)}, Fragment{testSecret(64)}, Key{testSecret(96)}
	o, err := service.SealOrigin(core, f, k)
	must.Succeed(t, err)
	if !service.OriginKey().Made(core, o) || !o.Asked(f.Proof(core)) || o.CheckKey(core, f, k) != nil {
		t.Fatal("the origin does not fit what it was sealed for")
	}
	if (ServiceSecret{testSecret(1)}).OriginKey().Made(core, o) || (OriginKey{}).Made(core, o) || service.OriginKey().Made(other, o) || service.OriginKey().Made(cid.Undef, o) {
		t.Error("made by another secret, or for another core")
	}
	for what, p := range map[string]Proof{
		"another link": Fragment{testSecret(65)}.Proof(core), "another object": f.Proof(other), "absent": {}, "absent link": Fragment{}.Proof(core),
		"the link itself": {f.secret},
	} {
		if o.Asked(p) {
			t.Errorf("%s: the proof is accepted", what)
		}
	}
	for what, err := range map[string]error{
		"link": o.CheckKey(core, Fragment{testSecret(65)}, k), "key": o.CheckKey(core, f, Key{testSecret(97)}),
		"core": o.CheckKey(other, f, k), "absent link": o.CheckKey(core, Fragment{}, k), "absent key": o.CheckKey(core, f, Key{}),
	} {
		if !errors.Is(err, ErrWrongKey) {
			t.Errorf("wrong %s: got %v, want ErrWrongKey", what, err)
		}
	}
	for i := range o {
		altered := o
		altered[i] ^= 1
		if service.OriginKey().Made(core, altered) {
			t.Errorf("byte %d altered: still made here", i)
		}
		if (altered.CheckKey(core, f, k) == nil) != (i >= 64) {
			t.Errorf("byte %d altered: a decoder accepts ask or commit", i)
		}
	}
}

func TestOriginNeedsEverything(t *testing.T) {
	core := testCore(t, "core")
	service, f, k := ServiceSecret{testSecret(0)}, Fragment{testSecret(64)}, Key{testSecret(96)}
	for what, seal := range map[string]func() (Origin, error){
		"secret":   func() (Origin, error) { return ServiceSecret{}.SealOrigin(core, f, k) },
		"core":     func() (Origin, error) { return service.SealOrigin(cid.Undef, f, k) },
		"fragment": func() (Origin, error) { return service.SealOrigin(core, Fragment{}, k) },
		"key":      func() (Origin, error) { return service.SealOrigin(core, f, Key{}) },
	} {
		if o, err := seal(); err == nil || o != (Origin{}) {
			t.Errorf("without %s: sealed, error %v", what, err)
		}
	}
	for _, n := range []int{0, OriginSize - 1, OriginSize + 1} {
		if _, err := ParseOrigin(make([]byte, n)); err == nil {
			t.Errorf("%d bytes: accepted", n)
		}
	}
	if o, err := ParseOrigin(make([]byte, OriginSize)); err != nil || o != (Origin{}) {
		t.Errorf("%d bytes: %v", OriginSize, err)
	}
	// A proof of an absent link must not be the one that 32 zero bytes would have.
	if (Origin{}).Asked(Proof{}) || (Fragment{}).Proof(core).Encode() != "" {
		t.Error("an absent proof is accepted")
	}
}

func TestProofsParse(t *testing.T) {
	p := Fragment{testSecret(64)}.Proof(testCore(t, "core"))
	if got, err := ParseProof(p.Encode()); err != nil || got != p {
		t.Errorf("parsed to another: %v", err)
	}
	for _, s := range []string{"", "z", p.Encode()[1:], p.Encode() + "2", p.Encode() + " "} {
		if _, err := ParseProof(s); err == nil {
			t.Errorf("%q: accepted", s)
		}
	}
}
