package simulation

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/diseq/diseq/node/chain"
)

const chainID = "simulation"

// signers sign votes, by the validator's index.
type signers []func(*chain.Vote)

// validators makes a set. Without real keys a signature is a few bytes of the vote: equal votes
// have equal signatures, and the oracle knows which votes were signed.
func validators(n, t int, real bool) (*chain.ValidatorSet, signers) {
	set := &chain.ValidatorSet{Threshold: uint32(t)}
	out := make(signers, 0, n)
	for i := range n {
		v := chain.Validator{PublicKey: chain.PublicKey{0: 'p', 1: byte(i), 2: 1}, VRFKey: chain.VRFKey{0: 'v', 1: byte(i), 2: 1}}
		sign := func(vote *chain.Vote) {
			vote.Signature = chain.Signature{
				byte(vote.Validator), byte(vote.Kind), byte(vote.Height), byte(vote.Round), vote.Block[0], vote.Block[1],
			}
		}
		if real {
			seed := sha256.Sum256(fmt.Appendf(nil, "simulation %d", i))
			key := ed25519.NewKeyFromSeed(seed[:])
			v.PublicKey = chain.PublicKeyOf(key)
			sign = func(vote *chain.Vote) { vote.Sign(key, chainID) }
		}
		set.Validators, out = append(set.Validators, v), append(out, sign)
	}
	return set, out
}

// sign signs as a validator and informs the oracle.
func (w *world) sign(v *chain.Vote) {
	w.signers[v.Validator](v)
	w.countVote(*v)
	w.signed[*v] = true
}

// Genesis returns the genesis document of the chain in a run with Options.Keys. It suffices to
// judge the run's evidence.
func Genesis(o Options) *chain.Genesis {
	set, _ := validators(o.N, o.T, true)
	g := &chain.Genesis{
		Version: 1, ChainID: chainID, Threshold: set.Threshold, SynchronyDeltaMS: uint32(o.Delta / time.Millisecond),
		Parameters: chain.DefaultParameters(),
	}
	for i, v := range set.Validators {
		g.Validators = append(g.Validators, chain.GenesisValidator{Name: fmt.Sprintf("v%d", i), Validator: v})
	}
	return g
}
