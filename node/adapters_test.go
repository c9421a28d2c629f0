package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer"
)

// A node passes on the batches of peers that are gone or frozen, and of no others.
func TestAPeerIsPresentWhileItIsConnectedAndHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i, test := range []struct {
			name        string
			up, inbound bool
			ago         time.Duration // since it was heard
			want        bool
		}{
			{"connected", true, true, time.Second, true},
			{"connected on its way alone", false, true, time.Second, true},
			{"connected on our way alone", true, false, time.Second, true},
			{"heard a moment ago, and gone", false, false, 0, false},
			{"connected and frozen", true, true, recently, false},
		} {
			p := peer.PeerInfo{Peer: peer.Peer{Key: chain.PublicKey{byte(i)}}, Up: test.up, Inbound: test.inbound, LastHeard: time.Now().Add(-test.ago)}
			if got := present([]peer.PeerInfo{p})[p.Key]; got != test.want {
				t.Errorf("%s: present is %v, want %v", test.name, got, test.want)
			}
		}
	})
}
