package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/node/chain"
)

func TestAConfigurationReadsBackAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.yaml")
	want := DefaultConfig()
	want.Name, want.LogFormat, want.Limits.MaxPoolBytes, want.PProf = "v0", "json", 1234567, true
	raw, err := yaml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	// Paths are relative to the file, not to the working directory.
	want.Genesis, want.Keys = filepath.Join(dir, "genesis.json"), filepath.Join(dir, "keys")
	want.Data, want.Peers = filepath.Join(dir, "data"), filepath.Join(dir, "peers.json")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestBytesHaveSuffixes(t *testing.T) {
	for in, want := range map[string]int64{`0`: 0, `17`: 17, `"17"`: 17, `"4Ki"`: 4096, `"256Mi"`: 256 << 20, `"1Gi"`: 1 << 30, `"3k"`: 3000, `"2M"`: 2e6, `"1G"`: 1e9} {
		var b Bytes
		if err := json.Unmarshal([]byte(in), &b); err != nil || int64(b) != want {
			t.Errorf("%s is %d, %v; want %d", in, b, err, want)
		}
	}
	for _, in := range []string{`-1`, `1.5`, `"Mi"`, `""`, `"1Ti"`, `"9223372036854775807Ki"`, `null`, `true`, `"-1Mi"`, `[1]`} {
		var b Bytes
		if err := json.Unmarshal([]byte(in), &b); err == nil && in != "null" {
			t.Errorf("%s is %d", in, b)
		}
	}
}

func TestPeersAreCheckedAndTheNodeItselfIsLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peers.yaml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, b := strings.Repeat("0a", 32), strings.Repeat("0b", 32)
	write("peers:\n- {name: a, public_key: " + a + ", address: 'a.example:1'}\n- {name: b, public_key: " + b + "}\n")
	var self chain.PublicKey
	self[0] = 1
	for i := range self {
		self[i] = 0x0a
	}
	peers, err := LoadPeers(path, self)
	if err != nil || len(peers) != 1 || peers[0].Name != "b" || peers[0].Address != "" {
		t.Errorf("peers %+v, %v", peers, err)
	}
	for content, want := range map[string]string{
		"peers: [{name: a, public_key: " + a + "}, {name: b, public_key: " + a + "}]":  "peers[1].public_key",
		"peers: [{name: a, public_key: '" + strings.Repeat("00", 32) + "'}]":           "peers[0].public_key",
		"peers: [{name: a, public_key: 17}]":                                           "number into field peers.public_key of type PublicKey",
		"peers: [{name: '', public_key: " + a + "}]":                                   "peers[0].name",
		"peers: [{name: a, public_key: " + a + ", address: nowhere}]":                  "peers[0].address",
		"peers: [{name: a, public_key: short}]":                                        "public key",
		"peers: [{name: a, public_key: " + a + ", host: 'x:1'}]":                       "host",
		"peers: [" + strings.Repeat("{name: a, public_key: "+a+"},", maxPeers+1) + "]": "1001 peers",
		strings.Repeat("#", maxConfigBytes+1):                                          "longer than",
	} {
		write(content)
		if _, err := LoadPeers(path, self); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", content, err, want)
		}
	}
}

func FuzzLoadPeersTakesOnlyWhatItChecked(f *testing.F) {
	f.Add([]byte(`{"peers":[{"name":"a","public_key":"` + strings.Repeat("0a", 32) + `","address":"127.0.0.1:1"}]}`))
	f.Add([]byte("peers: &a [*a]"))
	path := filepath.Join(f.TempDir(), "peers")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		peers, err := LoadPeers(path, chain.PublicKey{})
		if err != nil && peers != nil {
			t.Errorf("%d peers and the error %v", len(peers), err)
		}
		for _, p := range peers {
			if p.Name == "" || p.Key == (chain.PublicKey{}) {
				t.Errorf("peer %+v", p)
			}
		}
	})
}
