package vrf_test

import (
	"crypto/rand"
	"fmt"

	"github.com/diseq/diseq/node/vrf"
)

// One beacon epoch: the committing validator proves its output for the input that
// the beacon of the epoch before gives, everyone else checks it, and the next
// beacon and its leaders follow from the output.
func Example() {
	sk, err := vrf.NewSecretKey(rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	registered := sk.Public() // in the validator set

	genesis := [32]byte{1}
	x := vrf.Input("example", 1, genesis)
	y, proof, err := vrf.Prove(sk, x)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("verifies:", vrf.Verify(registered, x, y, proof) == nil)

	beacon := vrf.NextBeacon(genesis, 1, (*[32]byte)(&y))
	fmt.Println("leaders of a height:", len(vrf.LeaderOrder("example", beacon, 256, 4)))

	fmt.Println(sk)
	// Output:
	// verifies: true
	// leaders of a height: 4
	// vrf.SecretKey(redacted)
}
