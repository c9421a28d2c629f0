package simulation

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/diseq/diseq/node/chain"
)

const chainID = "simulation"

// identity is a validator for as long as a run lasts. A set has it at a place, and a vote names that
// place; everything else in this package goes by identity.
type identity struct {
	chain.NamedValidator
	number int
	// byzantine: it belongs to the coalition from the start.
	byzantine bool
	key       ed25519.PrivateKey
	sign      func(*chain.Vote)
}

// newIdentity makes an identity. Without real keys a signature is a few bytes of the vote: equal
// votes have equal signatures, and the oracle knows who signed a vote.
func newIdentity(number int, real bool) *identity {
	who := &identity{number: number}
	who.Name = fmt.Sprintf("v%d", number)
	who.PublicKey = chain.PublicKey{0: 'p', 1: byte(number), 2: 1}
	who.VRFKey = chain.VRFKey{0: 'v', 1: byte(number), 2: 1}
	who.sign = func(vote *chain.Vote) {
		vote.Signature = chain.Signature{
			byte(number), byte(vote.Kind), byte(vote.Height), byte(vote.Round), vote.Block[0], vote.Block[1],
		}
	}
	if real {
		seed := sha256.Sum256(fmt.Appendf(nil, "simulation %d", number))
		who.key = ed25519.NewKeyFromSeed(seed[:])
		who.PublicKey = chain.PublicKeyOf(who.key)
		who.sign = func(vote *chain.Vote) { vote.Sign(who.key, chainID) }
	}
	return who
}

// sign signs as a validator and informs the oracle.
func (w *world) sign(who *identity, v *chain.Vote) {
	who.sign(v)
	w.countVote(who, *v)
	w.signed[*v] = who
}

// validators makes a set.
func validators(n, t int, real bool) *era {
	var members []*identity
	for i := range n {
		members = append(members, newIdentity(i, real))
	}
	return newEra(&chain.ValidatorSet{Threshold: uint32(t)}, members)
}

// Genesis returns the genesis document of the chain in a run with Options.Keys. It suffices to
// judge the run's evidence.
func Genesis(o Options) *chain.Genesis {
	first := validators(o.N, o.T, true)
	g := &chain.Genesis{
		Version: 1, ChainID: chainID, Threshold: first.set.Threshold, SynchronyDeltaMS: uint32(o.Delta / time.Millisecond),
		Parameters: chain.DefaultParameters(),
	}
	for _, who := range first.places {
		g.Validators = append(g.Validators, who.NamedValidator)
	}
	return g
}
