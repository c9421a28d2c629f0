package vrf

import (
	"fmt"
	"sync"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
	"github.com/consensys/gnark/backend"
	plonk "github.com/consensys/gnark/backend/plonk/bls12-381"
	"github.com/consensys/gnark/backend/witness"
	"github.com/consensys/gnark/constraint/solver"
)

// proving lets one proof at a time be made in this process: each takes every core
// while it lasts.
var proving sync.Mutex

// Prove returns y = H(k, x) and a proof of it for sk.Public(). It takes about a
// tenth of a second on two cores, cannot be interrupted, and waits for a proof
// that another goroutine is making: see Prover. The proof differs from call to
// call, the output does not. The proof has been verified before it is returned, so
// that a fault of the machine is not published.
//
// The library offers no way to bound the cores it uses, beyond the solver's: its
// goroutines compete with the rest of the process as equals. A node of cmd/diseq
// therefore proves in a process of its own.
func Prove(sk SecretKey, x [32]byte) (Output, Proof, error) {
	y, err := Evaluate(sk, x)
	if err != nil {
		return Output{}, nil, err
	}
	keys, err := provingKey()
	if err != nil {
		return Output{}, nil, err
	}
	proof, err := prove(keys, sk, x, y)
	if err != nil {
		return Output{}, nil, fmt.Errorf("vrf: prove: %w", err)
	}
	if err := Verify(sk.Public(), x, y, proof); err != nil {
		return Output{}, nil, fmt.Errorf("vrf: the proof just made does not verify: %w", err)
	}
	return y, proof, nil
}

func prove(keys proverKeys, sk SecretKey, x [32]byte, y Output) (Proof, error) {
	public, err := publicInputs(sk.Public(), x, y)
	if err != nil {
		return nil, err
	}
	assignment, err := witness.New(ecc.BLS12_381.ScalarField())
	if err != nil {
		return nil, err
	}
	values := make(chan any, len(public)+1) // in the order of the circuit's fields
	for _, e := range public {
		values <- e
	}
	values <- sk.k
	close(values)
	if err := assignment.Fill(len(public), 1, values); err != nil {
		return nil, err
	}

	proving.Lock()
	defer proving.Unlock()
	proof, err := plonk.Prove(keys.system, keys.points, assignment,
		// The quotient's parts are blinded too: k is used for years, and every
		// proof made with it is public.
		backend.WithStatisticalZeroKnowledge(),
		backend.WithSolverOptions(solver.WithNbTasks(1)),
	)
	if err != nil {
		return nil, err
	}
	return encodeProof(proof)
}

// publicInputs returns the public inputs of the circuit in their order, P, x, y,
// each checked to be canonical.
func publicInputs(pk PublicKey, x [32]byte, y Output) (fr.Vector, error) {
	inputs := make(fr.Vector, 3)
	for i, in := range []struct {
		what string
		raw  [fr.Bytes]byte
	}{{"public key", pk}, {"input", x}, {"output", y}} {
		e, err := element(in.what, in.raw)
		if err != nil {
			return nil, err
		}
		inputs[i] = e
	}
	return inputs, nil
}
