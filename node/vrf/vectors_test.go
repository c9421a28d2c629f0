package vrf

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/diseq/diseq/node/vrf/internal/circuit"
)

// testdata/vectors.json is for second implementations: docs/protocol.md defines
// what is in it. The proofs are blinded, so -update changes them.
const vectorsFile = "testdata/vectors.json"

var update = flag.Bool("update", false, "write "+vectorsFile+" anew")

// hexBytes is a byte string that JSON shows as hexadecimal digits.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode(nil, text)
	return err
}

type vectors struct {
	KeyTag       hexBytes       `json:"key_tag"`
	VerifyingKey hexBytes       `json:"verifying_key"`
	Proofs       []proofVector  `json:"proofs"`
	Beacons      []beaconVector `json:"beacons"`
	Leaders      []leaderVector `json:"leaders"`
}

type proofVector struct {
	SecretKey hexBytes `json:"secret_key"`
	ChainID   string   `json:"chain_id"`
	Epoch     uint64   `json:"epoch"`
	Beacon    hexBytes `json:"beacon"`
	PublicKey hexBytes `json:"public_key"`
	Input     hexBytes `json:"input"`
	Output    hexBytes `json:"output"`
	Proof     hexBytes `json:"proof"`
}

type beaconVector struct {
	Beacon hexBytes `json:"beacon"`
	Epoch  uint64   `json:"epoch"`
	Output hexBytes `json:"output,omitempty"` // absent: "missing"
	Next   hexBytes `json:"next"`
}

type leaderVector struct {
	ChainID string   `json:"chain_id"`
	Beacon  hexBytes `json:"beacon"`
	Height  uint64   `json:"height"`
	N       int      `json:"n"`
	Order   []int    `json:"order"`
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	raw, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Proofs) == 0 || len(v.Beacons) == 0 || len(v.Leaders) == 0 {
		t.Fatalf("%s is incomplete", vectorsFile)
	}
	return v
}

// counting returns 32 bytes first, first+1, ...
func counting(first byte) (b [32]byte) {
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func writeVectors(t *testing.T) {
	t.Helper()
	tag := circuit.KeyTag()
	v := vectors{KeyTag: tag.Marshal(), VerifyingKey: verifyingKeyFile}

	for i, in := range []struct {
		chainID string
		epoch   uint64
	}{{"diseq-test", 1}, {"", 1<<64 - 1}} {
		secret := counting(byte(1 + 16*i))
		sk, err := ParseSecretKey(secret[:])
		if err != nil {
			t.Fatal(err)
		}
		beacon, pk := counting(0xe0), sk.Public()
		x := Input(in.chainID, in.epoch, beacon)
		y, proof, err := Prove(sk, x)
		if err != nil {
			t.Fatal(err)
		}
		v.Proofs = append(v.Proofs, proofVector{
			SecretKey: secret[:], ChainID: in.chainID, Epoch: in.epoch, Beacon: beacon[:],
			PublicKey: pk[:], Input: x[:], Output: y[:], Proof: hexBytes(proof),
		})
		next := NextBeacon(beacon, in.epoch, (*[32]byte)(&y))
		missing := NextBeacon(beacon, in.epoch, nil)
		v.Beacons = append(v.Beacons,
			beaconVector{Beacon: beacon[:], Epoch: in.epoch, Output: y[:], Next: next[:]},
			beaconVector{Beacon: beacon[:], Epoch: in.epoch, Next: missing[:]})
	}
	for _, n := range []int{1, 2, 3, 4, 7, 100} {
		beacon := counting(byte(n))
		for _, height := range []uint64{1, 1 << 40} {
			v.Leaders = append(v.Leaders, leaderVector{
				ChainID: "diseq-test", Beacon: beacon[:], Height: height, N: n,
				Order: LeaderOrder("diseq-test", beacon, height, n),
			})
		}
	}
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorsFile, append(raw, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The reference implementation and this package agree with the file, and so with
// each other.
//
// Promise 53.
func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	v := readVectors(t)
	tag := circuit.KeyTag()
	if !slices.Equal(v.KeyTag, tag.Marshal()) || !slices.Equal(v.KeyTag, referenceHashToField("diseq/vrf/public-key", nil)) {
		t.Errorf("tag_pk %x, want %x", tag.Marshal(), v.KeyTag)
	}
	if !slices.Equal(v.VerifyingKey, verifyingKeyFile) {
		t.Error("the verifying key is another one: the circuit changed, and so did the protocol")
	}
	for i, p := range v.Proofs {
		sk, err := ParseSecretKey(p.SecretKey)
		if err != nil {
			t.Fatal(err)
		}
		pk, x := sk.Public(), Input(p.ChainID, p.Epoch, [32]byte(p.Beacon))
		y, err := Evaluate(sk, x)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(pk[:], p.PublicKey) || !slices.Equal(pk[:], referenceCompress(p.SecretKey, v.KeyTag)) {
			t.Errorf("proof %d: public key %x, want %x", i, pk, p.PublicKey)
		}
		if !slices.Equal(x[:], p.Input) || !slices.Equal(x[:], referenceInput(p.ChainID, p.Epoch, p.Beacon)) {
			t.Errorf("proof %d: input %x, want %x", i, x, p.Input)
		}
		if !slices.Equal(y[:], p.Output) || !slices.Equal(y[:], referenceCompress(p.SecretKey, p.Input)) {
			t.Errorf("proof %d: output %x, want %x", i, y, p.Output)
		}
		if err := Verify(pk, x, y, Proof(p.Proof)); err != nil {
			t.Errorf("proof %d: %v", i, err)
		}
		if !referenceVerify(t, v.VerifyingKey, [3][32]byte{pk, x, y}, p.Proof) {
			t.Errorf("proof %d does not satisfy the equations of docs/protocol.md", i)
		}
		y[31] ^= 1
		if referenceVerify(t, v.VerifyingKey, [3][32]byte{pk, x, y}, p.Proof) {
			t.Errorf("proof %d: the reference verifier accepts anything", i)
		}
	}
	for i, b := range v.Beacons {
		next := NextBeacon([32]byte(b.Beacon), b.Epoch, outputOf(b))
		if !slices.Equal(next[:], b.Next) || !slices.Equal(next[:], referenceBeacon(b.Beacon, b.Epoch, b.Output)) {
			t.Errorf("beacon %d: %x, want %x", i, next, b.Next)
		}
	}
	for i, l := range v.Leaders {
		order := LeaderOrder(l.ChainID, [32]byte(l.Beacon), l.Height, l.N)
		if !slices.Equal(order, l.Order) || !slices.Equal(order, referenceOrder(l.ChainID, l.Beacon, l.Height, l.N)) {
			t.Errorf("leaders %d: %v, want %v", i, order, l.Order)
		}
	}
}

func outputOf(b beaconVector) *[32]byte {
	if b.Output == nil {
		return nil
	}
	return (*[32]byte)(b.Output)
}
