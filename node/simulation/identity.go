package simulation

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
)

const chainID = "simulation"

// identity is a validator for as long as a run lasts. A set has it at a place, and a vote names
// that place. Everything else in this package goes by identity.
type identity struct {
	chain.NamedValidator
	number int
	// byzantine: it belongs to the coalition from the start. stolen: it left, its node was stopped,
	// and the coalition has its key since.
	byzantine, stolen bool
	// retired: its nodes were stopped for good. named is the number of changes below the last set
	// that was to have it.
	retired bool
	named   int
	key     ed25519.PrivateKey
	sign    func(*chain.Vote)
}

// owned reports whether the coalition has the key.
func (who *identity) owned() bool { return who.byzantine || who.stolen }

// newIdentity makes an identity. Unless its votes are to be real, a signature of a vote is a few
// bytes of it: equal votes have equal signatures, and the oracle knows who signed a vote. Changes
// of the set need a real key in any case.
func newIdentity(number int, realVotes, realKey bool) *identity {
	who := &identity{number: number}
	who.Name = fmt.Sprintf("v%d", number)
	who.PublicKey = chain.PublicKey{0: 'p', 1: byte(number), 2: 1}
	who.VRFKey = chain.VRFKey{0: 0, 1: byte(number), 2: 1}
	if realVotes || realKey {
		who.key = keyOf(number)
		who.PublicKey = chain.PublicKeyOf(who.key)
	}
	who.sign = func(vote *chain.Vote) {
		vote.Signature = chain.Signature{
			byte(number), byte(vote.Kind), byte(vote.Height), byte(vote.Round), vote.Block[0], vote.Block[1],
		}
	}
	if realVotes {
		who.sign = func(vote *chain.Vote) { vote.Sign(who.key, chainID) }
	}
	return who
}

var keys sync.Map // by number

// keyOf returns the key of a number, the same in every run.
func keyOf(number int) ed25519.PrivateKey {
	if key, ok := keys.Load(number); ok {
		return key.(ed25519.PrivateKey)
	}
	seed := sha256.Sum256(fmt.Appendf(nil, "simulation %d", number))
	key := ed25519.NewKeyFromSeed(seed[:])
	keys.Store(number, key)
	return key
}

// sign signs as a validator and informs the oracle.
func (w *world) sign(who *identity, v *chain.Vote) {
	who.sign(v)
	w.countVote(who, *v)
	w.signed[*v] = who
}

// Genesis returns the genesis document of the chain in a run with Options.Keys. It suffices to
// judge the run's evidence.
func Genesis(o Options) *chain.Genesis {
	g := &chain.Genesis{
		Version: 1, ChainID: chainID, Threshold: uint32(o.T), SynchronyDeltaMS: uint32(o.Delta / time.Millisecond),
		Parameters: chain.DefaultParameters(),
	}
	for i := range o.N {
		g.Validators = append(g.Validators, newIdentity(i, true, true).NamedValidator)
	}
	return g
}
