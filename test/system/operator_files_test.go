package system

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/mempool"
)

// The operator writes the files of a node without linking the node; here the node reads them.
func TestANodeReadsTheFilesThatTheOperatorWrites(t *testing.T) {
	size := resource.MustParse("3Mi")
	network := &v1alpha1.DiseqNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: "ns"},
		Spec:       v1alpha1.DiseqNetworkSpec{Messages: v1alpha1.Messages{MaxPoolBytes: &size}},
	}
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text, err := resources.NodeConfig(network)
	if err != nil {
		t.Fatal(err)
	}
	got, err := node.LoadConfig(write("node.yaml", text), func(c *node.Config) { c.Name = "demo-v0" })
	if err != nil {
		t.Fatal(err)
	}
	want := node.DefaultConfig()
	want.Name, want.LogFormat, want.Limits.MaxPoolBytes = "demo-v0", "json", 3<<20
	want.Genesis, want.Keys, want.Data, want.Peers = "/etc/diseq/genesis/genesis.json", "/etc/diseq/keys", "/data", "/etc/diseq/peers/peers.json"
	want.Drain, want.VoteWhenRecorded = 10e9, true // 10 s
	want.Listen = node.Listen{Public: ":8080", Peer: ":7700", Operations: ":9090", Probes: ":9091"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the configuration reads as %+v, want %+v", got, want)
	}

	traced := network.DeepCopy()
	for _, rate := range []int32{0, 1, 1_000_000} {
		traced.Spec.Tracing = &v1alpha1.Tracing{Endpoint: "http://otel.tracing.svc:4318", SamplingRatePerMillion: rate}
		if text, err = resources.NodeConfig(traced); err != nil {
			t.Fatal(err)
		}
		got, err := node.LoadConfig(write("traced.yaml", text), func(c *node.Config) { c.Name = "demo-v0" })
		if err != nil {
			t.Fatal(err)
		}
		if got.Tracing.Endpoint != traced.Spec.Tracing.Endpoint || got.Tracing.SamplingRatePerMillion != int(rate) {
			t.Errorf("%d of a million read as %+v", rate, got.Tracing)
		}
	}

	bare := network.DeepCopy()
	bare.Spec.Service.Explorer = new(bool)
	if text, err = resources.NodeConfig(bare); err != nil {
		t.Fatal(err)
	}
	want.Explorer = false
	if got, err = node.LoadConfig(write("bare.yaml", text), func(c *node.Config) { c.Name = "demo-v0" }); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("without the explorer the configuration reads as %+v, %v, want %+v", got, err, want)
	}

	closed := network.DeepCopy()
	closed.Spec.Access = &v1alpha1.Access{TLS: &v1alpha1.AccessTLS{SecretName: "t", ClientCA: &v1alpha1.ClientCA{ConfigMap: "ca", Key: "ca.crt"}}}
	if text, err = resources.NodeConfig(closed); err != nil {
		t.Fatal(err)
	}
	got, err = node.LoadConfig(write("closed.yaml", text), func(c *node.Config) { c.Name = "demo-v0" })
	if err != nil {
		t.Fatal(err)
	}
	wantTLS := access.TLS{
		Certificate: "/etc/diseq/tls/tls.crt", Key: "/etc/diseq/tls/tls.key", ClientCA: "/etc/diseq/client-ca/ca.crt", MinVersion: "1.3",
	}
	if got.TLS == nil || *got.TLS != wantTLS || got.Access != "/etc/diseq/access/access.json" {
		t.Errorf("access reads as %+v with %q", got.TLS, got.Access)
	}

	var members []resources.Member
	for serial := range 3 {
		id, err := identity.New()
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, resources.Member{Serial: serial, Validator: id.Public()})
	}
	members[1].VoteStore = true
	configMap, err := resources.PeersConfigMap(network, members, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var file node.PeersFile
	if err := json.Unmarshal([]byte(configMap.Data[resources.PeersKey]), &file); err != nil {
		t.Fatal(err)
	}
	for i, p := range file.Peers {
		if p.VoteStore != (i == 1) {
			t.Errorf("%s made its vote store, as a node reads it: %v", p.Name, p.VoteStore)
		}
	}
	peers, err := node.LoadPeers(write("peers.json", configMap.Data[resources.PeersKey]), members[1].PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if len(peers) != 2 || peers[0].Key != members[0].PublicKey || peers[1].Name != "demo-v2" || peers[1].Address != "demo-v2-0.demo-peers.ns.svc:7700" {
		t.Errorf("the peers read as %+v", peers)
	}
	if _, err := node.LoadPeers(write("none.json", "{\"peers\":[]}\n"), chain.PublicKey{}); err != nil {
		t.Error(err)
	}
}

// A volume of the smallest size that the API takes leaves as much for the chain as a node keeps
// free.
func TestTheSmallestVolumeHasRoomForMessages(t *testing.T) {
	crd, err := os.ReadFile("../../config/crd/bases/diseq.io_diseqnetworks.yaml")
	if err != nil {
		t.Fatal(err)
	}
	smallest := fmt.Sprintf("quantity(string(self)).asInteger() >= %d\n", 2*mempool.MinFreeDisk)
	if !strings.Contains(string(crd), smallest) {
		t.Errorf("the schema of spec.storage.size has no rule %q: a node accepts nothing with less than %d bytes free", smallest, mempool.MinFreeDisk)
	}
}
