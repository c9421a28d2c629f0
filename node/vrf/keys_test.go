package vrf

import (
	"bytes"
	"testing"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	plonk "github.com/consensys/gnark/backend/plonk/bls12-381"

	"github.com/diseq/diseq/node/vrf/internal/ceremony"
	"github.com/diseq/diseq/node/vrf/internal/circuit"
)

// deriveKeys repeats what go generate does, from the ceremony's points.
func deriveKeys(t *testing.T) (*plonk.ProvingKey, *plonk.VerifyingKey) {
	t.Helper()
	path, err := ceremony.Path()
	if err != nil {
		t.Fatal(err)
	}
	srs, err := ceremony.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	pk, vk, err := ceremony.DeriveKeys(srs)
	if err != nil {
		t.Fatal(err)
	}
	return pk, vk
}

// Promise 41.
func TestEmbeddedKeysAreDerivedFromTheCeremony(t *testing.T) {
	pk, vk := deriveKeys(t)
	proving, err := circuit.MarshalProvingKey(pk)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(proving, provingKeyFile) {
		t.Error("keys/proving.key is not what the ceremony's points and the circuit give: run go generate")
	}
	if !bytes.Equal(circuit.MarshalVerifyingKey(vk), verifyingKeyFile) {
		t.Error("keys/verifying.key is not what the ceremony's points and the circuit give: run go generate")
	}
}

// Decoding restores everything that the short encodings leave out: the result has
// the library's own, complete encoding of a key.
func TestEmbeddedKeysAreComplete(t *testing.T) {
	wantPK, wantVK := deriveKeys(t)
	gotVK, err := verifyingKey()
	if err != nil {
		t.Fatal(err)
	}
	gotPK, err := provingKey()
	if err != nil {
		t.Fatal(err)
	}
	var got, want bytes.Buffer
	for _, w := range []struct {
		key *plonk.VerifyingKey
		to  *bytes.Buffer
	}{{gotVK, &got}, {wantVK, &want}} {
		if _, err := w.key.WriteTo(w.to); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range []struct {
		key *plonk.ProvingKey
		to  *bytes.Buffer
	}{{gotPK.points, &got}, {wantPK, &want}} {
		if _, err := w.key.WriteTo(w.to); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Error("the decoded keys differ from the derived ones")
	}
}

func TestKeyDecodersRefuseDamage(t *testing.T) {
	if _, err := circuit.UnmarshalVerifyingKey(verifyingKeyFile[:circuit.VerifyingKeySize-1]); err == nil {
		t.Error("a short verifying key was accepted")
	}
	damaged := bytes.Clone(verifyingKeyFile)
	damaged[47] ^= 1
	if _, err := circuit.UnmarshalVerifyingKey(damaged); err == nil {
		t.Error("a verifying key with a damaged point was accepted")
	}
	if _, err := circuit.UnmarshalProvingKey(append(bytes.Clone(provingKeyFile), 0), nil); err == nil {
		t.Error("a proving key with a trailing byte was accepted")
	}
	if _, err := circuit.UnmarshalProvingKey(provingKeyFile[:len(provingKeyFile)-1], nil); err == nil {
		t.Error("a short proving key was accepted")
	}
}

func TestCircuitFillsTheDomainItsKeysAreFor(t *testing.T) {
	system, err := circuit.Compile()
	if err != nil {
		t.Fatal(err)
	}
	const constraints = 696 // part of the protocol: another circuit is another verifying key
	if got := system.GetNbConstraints(); got != constraints {
		t.Errorf("%d constraints, want %d", got, constraints)
	}
	if got := system.GetNbPublicVariables(); got != 3 {
		t.Errorf("%d public inputs, want P, x and y", got)
	}
}

func TestCeremonyCheckRefusesOtherPoints(t *testing.T) {
	path, err := ceremony.Path()
	if err != nil {
		t.Fatal(err)
	}
	srs, err := ceremony.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	points := srs.Pk.G1

	for name, i := range map[string]int{"first": 0, "tau": 1, "middle": 512, "last": len(points) - 1} {
		saved := points[i]
		points[i].Double(&points[i])
		if ceremony.Check(srs) == nil {
			t.Errorf("points with a wrong power (%s) were accepted", name)
		}
		points[i] = saved
	}

	// A consistent setup with a tau of someone's own.
	_, _, _, g2 := bls12381.Generators()
	saved := srs.Vk.G2[1]
	srs.Vk.G2[1].Double(&g2)
	if ceremony.Check(srs) == nil {
		t.Error("another tau was accepted")
	}
	srs.Vk.G2[1] = saved
	if err := ceremony.Check(srs); err != nil {
		t.Errorf("the untouched points: %v", err)
	}
}
