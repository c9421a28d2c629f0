package resources

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/node/chain"
)

// Member is a validator and its public keys.
type Member struct {
	// Serial is the number in its name, see ValidatorName.
	Serial int
	// VoteStore says that its node made its vote store.
	VoteStore bool
	// NamedFor is that of its entry in the peers file.
	NamedFor uint32
	chain.Validator
}

// bySerial is the order of validators everywhere: by number, so that v10 comes after v9.
func bySerial(members []Member) []Member {
	return slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.Serial, b.Serial) })
}

// Genesis makes the genesis document of a new network. A constant that the spec leaves out has the
// chain's default. The error names the field that is wrong.
func Genesis(network *v1alpha1.DiseqNetwork, chainID string, at time.Time, members []Member) (*chain.Genesis, error) {
	p := chain.DefaultParameters()
	spec := network.Spec
	interval := int64(p.BeaconInterval)
	if spec.Consensus.BeaconInterval != nil {
		interval = *spec.Consensus.BeaconInterval
	}
	var delta uint32 // 0 is without the synchrony wait
	var given *metav1.Duration
	if spec.Consensus.Synchrony != nil {
		given = &spec.Consensus.Synchrony.Delta
	}
	for _, v := range []struct {
		field string
		value int64
		to    *uint32
	}{
		{"consensus.minBlockInterval", milliseconds(spec.Consensus.MinBlockInterval, p.MinBlockIntervalMS), &p.MinBlockIntervalMS},
		{"consensus.beaconInterval", interval, &p.BeaconInterval},
		{"consensus.synchrony.delta", milliseconds(given, 0), &delta},
		{"messages.maxBytes", quantity(spec.Messages.MaxBytes, p.MaxMessageBytes), &p.MaxMessageBytes},
		{"messages.maxBlockBytes", quantity(spec.Messages.MaxBlockBytes, p.MaxBlockBytes), &p.MaxBlockBytes},
	} {
		// The document's own check has the other rules.
		if v.value < 0 || v.value > math.MaxUint32 {
			return nil, fmt.Errorf("spec.%s: want a whole number of its unit (milliseconds, heights or bytes) from 0 to %d",
				v.field, uint32(math.MaxUint32))
		}
		*v.to = uint32(v.value)
	}
	g := &chain.Genesis{
		Version: 1, ChainID: chainID, TimeMS: uint64(max(at.UnixMilli(), 0)), Parameters: p,
		Threshold:        uint32(max(spec.Threshold.ThresholdOf(int32(min(len(members), chain.MaxValidators+1))), 0)),
		SynchronyDeltaMS: delta,
	}
	for _, m := range bySerial(members) {
		g.Validators = append(g.Validators, chain.NamedValidator{Name: ValidatorName(network.Name, m.Serial), Validator: m.Validator})
	}
	return g, g.Validate()
}

// milliseconds is -1 if the duration is not a whole number of milliseconds.
func milliseconds(d *metav1.Duration, otherwise uint32) int64 {
	switch {
	case d == nil:
		return int64(otherwise)
	case d.Duration%time.Millisecond != 0:
		return -1
	}
	return d.Milliseconds()
}

func quantity(q *resource.Quantity, otherwise uint32) int64 {
	if q == nil {
		return int64(otherwise)
	}
	return q.Value()
}

// EncodeGenesis returns the text of a genesis document: JSON that chain.ReadGenesis reads.
func EncodeGenesis(g *chain.Genesis) ([]byte, error) {
	out, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	return append(out, '\n'), nil
}

// GenesisConfigMap is the ConfigMap with the genesis document, which is immutable. If the network
// has one already, the caller passes its text, not a new one.
func GenesisConfigMap(network *v1alpha1.DiseqNetwork, document string) *corev1ac.ConfigMapApplyConfiguration {
	return retained(network, networkLabels(network.Name),
		corev1ac.ConfigMap(GenesisName(network.Name), network.Namespace).
			WithImmutable(true).WithData(map[string]string{GenesisKey: document}))
}
