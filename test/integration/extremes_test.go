package integration

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/integration/harness"
)

// members makes n validators with keys that differ and are good for nothing else.
func members(n int32) []resources.Member {
	out := make([]resources.Member, n)
	for i := range out {
		out[i].Serial = i
		out[i].PublicKey = chain.PublicKeyOf(ed25519.NewKeyFromSeed(fmt.Appendf(nil, "%032d", i)))
		out[i].VRFKey[0], out[i].VRFKey[1] = 2, byte(i)
	}
	return out
}

// The operator and the node must not refuse a spec that the API server accepts: each combination of
// the extremes gives a genesis document and a configuration that they take.
func TestWhatIsAcceptedGivesAGenesisDocumentAndANodeConfiguration(t *testing.T) {
	type size struct{ messages, block string }
	accepted := 0
	for _, validators := range []int{1, 2, 3, 4, 99, 100} {
		for _, threshold := range []string{"policy: Majority", "policy: TwoThirds", fmt.Sprintf("policy: Fixed, value: %d", validators), fmt.Sprintf("policy: Fixed, value: %d", validators/2+1)} {
			for _, interval := range []string{"0s", "60s, synchrony: {delta: 0s}", "0s, synchrony: {delta: 1m}", "60s, synchrony: {delta: 10ms}"} {
				for _, epoch := range []int{1, 1 << 20} {
					for _, s := range []size{{"1", "9"}, {"1", "16Mi"}, {"4Mi", "4194312"}, {"4Mi", "16Mi"}} {
						for _, pool := range []string{"1Mi", "409600k", "64Gi"} {
							spec := fmt.Sprintf("{validators: %d, threshold: {%s}, consensus: {minBlockInterval: %s, beaconInterval: %d}, messages: {maxBytes: %s, maxBlockBytes: %s, maxPoolBytes: %s}}",
								validators, threshold, interval, epoch, s.messages, s.block, pool)
							u := written(t, shared(t), "a123456789012345678901234567890123456789", spec)
							if err := harness.Client(t).Create(t.Context(), u, client.DryRunAll, strictly); err != nil {
								expect(t, err, "has an equal share of the pool")
								continue
							}
							accepted++
							n := typed(t, u)
							genesis, err := resources.Genesis(n, resources.ChainID(n), time.UnixMilli(1), members(n.Spec.Validators))
							if err != nil {
								t.Fatalf("%s: %v", spec, err)
							}
							checkNodeConfig(t, spec, n.Spec.Validators, genesis.Parameters, must(resources.NodeConfig(n)))
						}
					}
				}
			}
		}
	}
	if accepted < 100 {
		t.Errorf("%d specs accepted: the extremes are no longer those of the API", accepted)
	}
}

func must(text string, err error) string {
	if err != nil {
		panic(err)
	}
	return text
}

// checkNodeConfig reads the configuration as a node does, and does the sum that its message pool
// does: a share for each validator, with room for the largest message and the batches around it.
func checkNodeConfig(t *testing.T, spec string, validators int32, p chain.Parameters, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(file, []byte("name: a\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := node.LoadConfig(file)
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	const batches = 32 * (32 + 8 + 8 + 4 + 64)
	if share := int64(c.Limits.MaxPoolBytes) / int64(validators); share < int64(p.MaxMessageBytes)+batches {
		t.Errorf("%s: a share of %d bytes", spec, share)
	}
}
