package consensus_test

import (
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// A chain of one validator: it proposes, and its own votes make every certificate. The loop is what
// a node does, less the disk, the network and the clock.
func Example() {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	set := &chain.ValidatorSet{
		Validators: []chain.Validator{{PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey{1}}},
		Threshold:  1,
	}
	core, err := consensus.New(consensus.Config{
		ChainID: "example", PublicKey: chain.PublicKeyOf(key), Sign: func(v *chain.Vote) { v.Sign(key, "example") },
		RoundTimeout: 500 * time.Millisecond, MaxRoundTimeout: 10 * time.Second, RetryInterval: consensus.DefaultRetryInterval,
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	core.Step(consensus.Pool{Pending: true})
	actions, err := core.StartHeight(consensus.Height{Number: 1, Set: set, Order: []int{0}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for len(actions) > 0 {
		action := actions[0]
		actions = actions[1:]
		switch a := action.(type) {
		case consensus.Persist:
			fmt.Println("persist", len(a.Records), "records")
		case consensus.RequestBlock:
			b := &chain.Block{Header: chain.Header{ChainID: "example", Height: a.Height}}
			b.Sign(key)
			actions = append(actions, core.Step(consensus.BlockBuilt{Round: a.Round, Block: b})...)
		case consensus.Commit:
			fmt.Println("commit height", a.Finalization.Height, "with strength", a.Finalization.Strength())
			fmt.Println("certificate:", a.Finalization.Verify("example", set))
		}
	}
	// Output:
	// persist 5 records
	// commit height 1 with strength 1
	// certificate: <nil>
}
