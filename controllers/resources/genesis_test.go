package resources

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/node/chain"
)

var birth = time.UnixMilli(1_700_000_000_000)

func TestGenesisIsMadeOfTheSpecAndTheKeys(t *testing.T) {
	network := newNetwork("demo")
	members := newMembers(12)
	slices.Reverse(members)
	g, err := Genesis(network, ChainID(network), birth, members)
	if err != nil {
		t.Fatal(err)
	}
	if g.ChainID != "demo-0a1b2c3d" || g.TimeMS != 1_700_000_000_000 || g.Threshold != 7 || g.SynchronyDeltaMS != 0 || g.Parameters != chain.DefaultParameters() {
		t.Errorf("genesis %+v", g)
	}
	for i, v := range g.Validators {
		if v.Name != ValidatorName("demo", i) || v.Validator != members[11-i].Validator {
			t.Errorf("validator %d is %s", i, v.Name)
		}
	}
	text, err := EncodeGenesis(g)
	if err != nil {
		t.Fatal(err)
	}
	again, err := chain.ReadGenesis(bytes.NewReader(text))
	if err != nil || again.Hash() != g.Hash() {
		t.Errorf("reads back as %+v, %v", again, err)
	}
	o := GenesisConfigMap(network, string(text))
	if !*o.Immutable || o.Data[GenesisKey] != string(text) || *o.Name != "demo-genesis" {
		t.Errorf("ConfigMap %+v", o)
	}
}

func TestGenesisHasTheConstantsOfTheSpec(t *testing.T) {
	network := newNetwork("demo")
	interval := int64(7)
	network.Spec.Consensus = v1alpha1.Consensus{MinBlockInterval: &metav1.Duration{Duration: 50 * time.Millisecond}, BeaconInterval: &interval}
	synchronous(250 * time.Millisecond)(network)
	one, two := resource.MustParse("1Ki"), resource.MustParse("1Mi")
	network.Spec.Messages = v1alpha1.Messages{MaxBytes: &one, MaxBlockBytes: &two}
	network.Spec.Threshold.Policy = v1alpha1.ThresholdTwoThirds
	g, err := Genesis(network, "x", birth, newMembers(7))
	if err != nil {
		t.Fatal(err)
	}
	want := chain.DefaultParameters()
	want.MinBlockIntervalMS, want.BeaconInterval, want.MaxMessageBytes, want.MaxBlockBytes = 50, 7, 1<<10, 1<<20
	if g.Parameters != want || g.Threshold != 5 || g.SynchronyDeltaMS != 250 {
		t.Errorf("parameters %+v, threshold %d, delta %d ms", g.Parameters, g.Threshold, g.SynchronyDeltaMS)
	}
}

func TestGenesisRefusesWhatTheChainCannotDo(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*v1alpha1.DiseqNetwork)
		members int
		want    string
	}{
		"no validators":           {func(*v1alpha1.DiseqNetwork) {}, 0, "validator set of 0"},
		"too many validators":     {func(*v1alpha1.DiseqNetwork) {}, 101, "validator set of 101"},
		"a part of a ms":          {interval(time.Microsecond), 4, "spec.consensus.minBlockInterval"},
		"a negative interval":     {interval(-time.Second), 4, "spec.consensus.minBlockInterval"},
		"too long an interval":    {interval(time.Hour), 4, "min_block_interval_ms is 3600000"},
		"an endless interval":     {interval(1 << 62), 4, "spec.consensus.minBlockInterval"},
		"a part of a ms of Delta": {synchronous(10_500 * time.Microsecond), 4, "spec.consensus.synchrony.delta"},
		"a negative Delta":        {synchronous(-time.Second), 4, "spec.consensus.synchrony.delta"},
		"too short a Delta":       {synchronous(9 * time.Millisecond), 4, "synchrony_delta_ms 9"},
		"too long a Delta":        {synchronous(time.Minute + time.Millisecond), 4, "synchrony_delta_ms 60001"},
		"an endless Delta":        {synchronous(1 << 62), 4, "spec.consensus.synchrony.delta"},
		"messages of no size":     {func(n *v1alpha1.DiseqNetwork) { n.Spec.Messages.MaxBytes = bytesOf(0) }, 4, "max_message_bytes is 0"},
		"messages of 8 EiB":       {func(n *v1alpha1.DiseqNetwork) { n.Spec.Messages.MaxBytes = bytesOf(1 << 62) }, 4, "spec.messages.maxBytes"},
		"blocks below a message":  {func(n *v1alpha1.DiseqNetwork) { n.Spec.Messages.MaxBlockBytes = bytesOf(1) }, 4, "max_block_bytes is 1"},
	} {
		network := newNetwork("demo")
		tt.change(network)
		if _, err := Genesis(network, "x", birth, newMembers(tt.members)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
	if _, err := Genesis(newNetwork("demo"), "NO", birth, newMembers(4)); err == nil || !strings.Contains(err.Error(), "chain_id") {
		t.Errorf("a bad chain id: %v", err)
	}
}

func interval(d time.Duration) func(*v1alpha1.DiseqNetwork) {
	return func(n *v1alpha1.DiseqNetwork) { n.Spec.Consensus.MinBlockInterval = &metav1.Duration{Duration: d} }
}

func synchronous(delta time.Duration) func(*v1alpha1.DiseqNetwork) {
	return func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Consensus.Synchrony = &v1alpha1.Synchrony{Delta: metav1.Duration{Duration: delta}}
	}
}

func TestNoDeltaIsNoSynchronyWait(t *testing.T) {
	network := newNetwork("demo")
	synchronous(0)(network)
	g, err := Genesis(network, "x", birth, newMembers(4))
	if err != nil || g.SynchronyDeltaMS != 0 {
		t.Errorf("delta %+v, %v", g, err)
	}
}

func TestChainIDsAreValidForTheLongestName(t *testing.T) {
	network := newNetwork(strings.Repeat("n", 40))
	if _, err := Genesis(network, ChainID(network), birth, newMembers(4)); err != nil {
		t.Error(err)
	}
}

// Package test/system tests with a real node that it reads these files.
func TestAllValidatorsShareConfigurationAndPeers(t *testing.T) {
	network := newNetwork("demo")
	size := resource.MustParse("3Mi")
	network.Spec.Messages.MaxPoolBytes = &size
	config, err := ConfigMap(network)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err = yaml.Unmarshal([]byte(config.Data[ConfigKey]), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"genesis": "/etc/diseq/genesis/genesis.json", "keys": "/etc/diseq/keys", "data": "/data", "peers": "/etc/diseq/peers/peers.json",
		"listen": map[string]any{"public": ":8080", "peer": ":7700", "operations": ":9090", "probes": ":9091"},
		"limits": map[string]any{"maxPoolBytes": float64(3 << 20)}, "logFormat": "json", "drain": "10s", "voteWhenRecorded": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("node.yaml, -want +got:\n%s", diff)
	}
	members := newMembers(11)
	members[3].VoteStore = true
	slices.Reverse(members)
	o, err := PeersConfigMap(network, members, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var file PeersFile
	if err := json.Unmarshal([]byte(o.Data[PeersKey]), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Peers) != 11 || file.Peers[10] != (PeerEntry{Name: "demo-v10", PublicKey: members[0].PublicKey, Address: "demo-v10-0.demo-peers.ns.svc:7700"}) {
		t.Errorf("peers %+v", file.Peers)
	}
	for i, p := range file.Peers {
		if p.VoteStore != (i == 3) {
			t.Errorf("%s made its vote store: %v", p.Name, p.VoteStore)
		}
	}
}
