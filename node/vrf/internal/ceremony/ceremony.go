// Package ceremony derives the keys of package vrf from the points of the
// Ethereum KZG ceremony (EIP-4844), a powers-of-tau setup over BLS12-381 with
// more than 140,000 contributors: the keys are sound if one of them was honest.
//
// The points come with the pinned module github.com/crate-crypto/go-eth-kzg, as
// a JSON file of 800 KB. Only the generator of the keys and the test that
// repeats it use this package: a node never parses that file.
package ceremony

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/consensys/gnark-crypto/ecc"
	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/kzg"
	plonk "github.com/consensys/gnark/backend/plonk/bls12-381"
	goethkzg "github.com/crate-crypto/go-eth-kzg"

	"github.com/diseq/diseq/node/vrf/internal/circuit"
)

// TauG2 is [tau]G2 of the Ethereum KZG ceremony, compressed: the one value that
// identifies its outcome (g2_monomial[1] of trusted_setup_4096.json in
// ethereum/consensus-specs). The module ships its points under a comment that
// calls them a test setup with the secret 1337; this pin, and Check, hold that
// they are not.
const TauG2 = "b5bfd7dd8cdeb128843bc287230af38926187075cbfbefa81009a2ce615ac53d" +
	"2914e5870cb452d2afaaab24f3499f72185cbfee53492714734429b7b38608e2" +
	"3926c911cceceac9a36851477ba4c60b087041de621000edc98edada20c1def2"

// monomialPoints is what a PLONK proving key over the domain needs: three more
// powers than rows, for the blinding.
const monomialPoints = circuit.DomainSize + 3

// Path returns where the pinned module keeps the points of the ceremony in the
// module cache. It runs the go command, which must therefore be installed.
func Path() (string, error) {
	const module = "github.com/crate-crypto/go-eth-kzg"
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("locate module %s: %w", module, err)
	}
	dir := strings.TrimSpace(string(out))
	if dir == "" {
		return "", fmt.Errorf("locate module %s: not in the module cache; run go mod download", module)
	}
	return filepath.Join(dir, "trusted_setup.json"), nil
}

// Load reads the points that the circuit's domain needs, each checked to lie in
// its prime-order subgroup, and checks them with Check.
func Load(path string) (*kzg.SRS, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the ceremony's points: %w", err)
	}
	var file goethkzg.JSONTrustedSetup
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("parse the ceremony's points in %s: %w", filepath.Base(path), err)
	}
	if len(file.SetupG2) < 2 {
		return nil, fmt.Errorf("parse the ceremony's points: %d points of G2, need 2", len(file.SetupG2))
	}

	srs := &kzg.SRS{Pk: kzg.ProvingKey{G1: make([]bls12381.G1Affine, monomialPoints)}}
	for i := range srs.Pk.G1 {
		if err := decodePoint(&srs.Pk.G1[i], file.SetupG1Monomial[i]); err != nil {
			return nil, fmt.Errorf("g1_monomial[%d]: %w", i, err)
		}
	}
	for i := range srs.Vk.G2 {
		if err := decodePoint(&srs.Vk.G2[i], file.SetupG2[i]); err != nil {
			return nil, fmt.Errorf("g2_monomial[%d]: %w", i, err)
		}
		srs.Vk.Lines[i] = bls12381.PrecomputeLines(srs.Vk.G2[i])
	}
	srs.Vk.G1 = srs.Pk.G1[0]
	if err := Check(srs); err != nil {
		return nil, err
	}
	return srs, nil
}

// decodePoint sets p to the compressed point that text encodes as 0x and
// hexadecimal digits; SetBytes refuses what is not in the subgroup.
func decodePoint(p interface{ SetBytes([]byte) (int, error) }, text string) error {
	digits, ok := strings.CutPrefix(text, "0x")
	if !ok {
		return errors.New("point without 0x prefix")
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return err
	}
	n, err := p.SetBytes(raw)
	if err == nil && n != len(raw) {
		err = fmt.Errorf("point of %d bytes in %d", n, len(raw))
	}
	return err
}

// Check holds that srs is the Ethereum KZG ceremony's: it starts at the standard
// generators, [tau]G2 is the pinned one, every point of G1 is tau times the one
// before it, and tau is not the 1337 of the well-known test setup.
func Check(srs *kzg.SRS) error {
	_, _, g1, g2 := bls12381.Generators()
	if len(srs.Pk.G1) < 2 || !srs.Pk.G1[0].Equal(&g1) || !srs.Vk.G1.Equal(&g1) || !srs.Vk.G2[0].Equal(&g2) {
		return errors.New("ceremony: the points do not start at the generators of BLS12-381")
	}
	tauG2 := srs.Vk.G2[1].Bytes()
	if got := hex.EncodeToString(tauG2[:]); got != TauG2 {
		return fmt.Errorf("ceremony: [tau]G2 is %s, want %s", got, TauG2)
	}
	var known bls12381.G1Affine
	known.ScalarMultiplication(&g1, big.NewInt(1337))
	if srs.Pk.G1[1].Equal(&known) {
		return errors.New("ceremony: tau is 1337, the secret of the test setup")
	}
	return checkPowers(srs)
}

// checkPowers holds e(G1[i+1], G2) = e(G1[i], [tau]G2) for every i by one
// pairing check of random combinations: a wrong power passes with probability
// 2^-255.
func checkPowers(srs *kzg.SRS) error {
	n := len(srs.Pk.G1) - 1
	weights := make(fr.Vector, n)
	for i := range weights {
		if _, err := weights[i].SetRandom(); err != nil {
			return fmt.Errorf("ceremony: random weights: %w", err)
		}
	}
	var low, high bls12381.G1Affine
	if _, err := low.MultiExp(srs.Pk.G1[:n], weights, ecc.MultiExpConfig{}); err != nil {
		return fmt.Errorf("ceremony: combine the points: %w", err)
	}
	if _, err := high.MultiExp(srs.Pk.G1[1:], weights, ecc.MultiExpConfig{}); err != nil {
		return fmt.Errorf("ceremony: combine the points: %w", err)
	}
	high.Neg(&high)
	ok, err := bls12381.PairingCheck(
		[]bls12381.G1Affine{low, high},
		[]bls12381.G2Affine{srs.Vk.G2[1], srs.Vk.G2[0]},
	)
	if err != nil {
		return fmt.Errorf("ceremony: pairing: %w", err)
	}
	if !ok {
		return errors.New("ceremony: the points of G1 are not the powers of the tau in [tau]G2")
	}
	return nil
}

// DeriveKeys returns the proving and verifying key of the VRF circuit over srs.
// Nothing in it is random: the same points and circuit give the same keys.
func DeriveKeys(srs *kzg.SRS) (*plonk.ProvingKey, *plonk.VerifyingKey, error) {
	system, err := circuit.Compile()
	if err != nil {
		return nil, nil, err
	}
	lagrange, err := kzg.ToLagrangeG1(srs.Pk.G1[:circuit.DomainSize])
	if err != nil {
		return nil, nil, fmt.Errorf("points in Lagrange form: %w", err)
	}
	pk, vk, err := plonk.Setup(system, *srs, kzg.SRS{Pk: kzg.ProvingKey{G1: lagrange}, Vk: srs.Vk})
	if err != nil {
		return nil, nil, fmt.Errorf("derive the VRF keys: %w", err)
	}
	if vk.Size != circuit.DomainSize {
		return nil, nil, fmt.Errorf("derive the VRF keys: a domain of %d rows, want %d", vk.Size, circuit.DomainSize)
	}
	return pk, vk, nil
}
