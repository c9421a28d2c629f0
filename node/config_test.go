package node

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/yamlfile"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/peersfile"
)

func TestAConfigurationReadsBackAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.yaml")
	want := DefaultConfig()
	want.Name, want.LogFormat, want.Limits.MaxPoolBytes, want.PProf = "v0", "json", 1234567, true
	want.Drain = yamlfile.Duration(90 * time.Second)
	want.Listen.Probes = "127.0.0.1:18380"
	want.Hosts = []string{"node.example"}
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

// Promise 37.
func TestAConfigurationIsReadInOneWayOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	for content, want := range map[string]string{
		"name: a\nName: b\n":                             "at /Name: unknown member",
		"Name: a\n":                                      "at /Name: unknown member",
		"name: a\nname: b\n":                             `key "name" already set`,
		"{\"name\":\"a\",\"name\":\"b\"}":                `key "name" already set`,
		"{\"name\":\"a\",\"n\\u0061me\":\"b\"}":          `key "name" already set`,
		"name: a\nlimits: {historyheights: 128}\n":       "at /limits/historyheights: unknown member",
		"name: a\nlimits: {historyHeights: 128.5}\n":     "line 2: 128.5: write an integer",
		"name: a\nlimits: {historyHeights: '128'}\n":     "at /limits/historyHeights: want an integer",
		"name: a\nlimits:\n":                             "at /limits: null in the place of a value",
		"name: a\ndrain: 10\n":                           "10 is not a time: want one such as 10s",
		"name: a\ndrain: ten\n":                          `"ten" is not a time`,
		"name: a\ndrain: -1s\n":                          "drain: -1s, allowed are 0s to 10m0s",
		"name: a\ndrain: 601s\n":                         "drain: 10m1s, allowed are 0s to 10m0s",
		"name: 7\n":                                      "at /name: want a string",
		"name: a\nlimits: {connections: 15}\n":           "limits.connections: 15, allowed are 16 to 65536",
		"name: a\nhosts: ['Node:80']\n":                  "hosts[0] \"Node:80\": want a host name in lower case",
		"name: a\nlimits: {streams: 0}\n":                "limits.streams: 0, allowed are 1 to 65536",
		"name: a\nlimits: {answerBytes: 1Mi}\n":          "limits.answerBytes: 1048576, allowed are",
		"name: a\nlisten: {probes: nowhere}\n":           "listen.probes:",
		"name: a\nlisten: {probes: '127.0.0.1:18280'}\n": "is taken by listen.operations",
		"name: a\n---\nname: b\n":                        "a second document follows the first",
		"{\"name\":\"a\"}\n{\"name\":\"b\"}\n":           "a second document follows the first",
		"\xef\xbb\xbfname: a\n":                          "byte order mark",
		"\xff\xfen\x00a\x00m\x00e\x00:\x00 \x00a\x00":    "want UTF-8",
		"name: \xff\n":                                   "want UTF-8",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
	}
	for _, content := range []string{"name: a\n", "---\nname: a\n...\n", `{"name":"a"}`} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := LoadConfig(path); err != nil || c.Name != "a" || c.Limits != DefaultConfig().Limits {
			t.Errorf("%q: %+v, %v", content, c, err)
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
	a, b := strings.Repeat("1a", 32), strings.Repeat("1d", 32)
	write("peers:\n- {name: a, public_key: " + a + ", address: 'a.example:1'}\n- {name: b, public_key: " + b + "}\n")
	var self chain.PublicKey
	self[0] = 1
	for i := range self {
		self[i] = 0x1a
	}
	peers, err := LoadPeers(path, self)
	if err != nil || len(peers) != 1 || peers[0].Name != "b" || peers[0].Address != "" {
		t.Errorf("peers %+v, %v", peers, err)
	}
	for content, want := range map[string]string{
		"peers: [{name: a, public_key: " + a + "}, {name: b, public_key: " + a + "}]": "peers[1].public_key",
		"peers: [{name: a, public_key: '" + strings.Repeat("00", 32) + "'}]":          "peers[0].public_key",
		"peers: [{name: a, public_key: 17}]":                                          "at /peers/0/public_key: want a string",
		"peers: [{name: '', public_key: " + a + "}]":                                  "peers[0].name",
		"peers: [{name: a, public_key: " + a + ", address: nowhere}]":                 "peers[0].address",
		"peers: [{name: a, public_key: short}]":                                       "public key",
		"peers: [{name: a, public_key: " + a + ", host: 'x:1'}]":                      "host",
		"peers: [" + strings.Repeat("{name: a, public_key: "+a+"},", 1001) + "]":      "1001 peers",
		strings.Repeat("#", yamlfile.MaxBytes+1):                                      "longer than",
	} {
		write(content)
		if _, err := LoadPeers(path, self); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", content, err, want)
		}
	}
}

// FuzzLoadPeersTakesOnlyWhatItChecked reads any peers file: the peers that are taken have names,
// keys of their own and addresses that can be dialled; written as JSON, which encoding/json reads
// as the same, they are read as the same; each leaves out itself alone.
//
// Promise 37.
func FuzzLoadPeersTakesOnlyWhatItChecked(f *testing.F) {
	a, b := strings.Repeat("1a", 32), strings.Repeat("1d", 32)
	f.Add([]byte(`{"peers":[{"name":"a","public_key":"` + a + `","address":"127.0.0.1:1"}]}`))
	f.Add([]byte("peers:\n- {name: a, public_key: " + a + ", address: 'a.example:1', vote_store: true}\n- {name: b, public_key: " + b + "}\n"))
	f.Add([]byte("peers: [{name: a, public_key: " + a + "}, {name: b, public_key: " + a + "}]"))
	f.Add([]byte("peers: &a [*a]"))
	f.Add([]byte(`{"peers":[],"target":{"follows":1,"threshold":1,"validators":[{"name":"a","public_key":"` + a + `","vrf_key":"` + b + `"}]},` +
		`"checkpoint":{"height":9,"hash":"` + a + `"}}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		load := func(content []byte, self chain.PublicKey) ([]peer.Peer, error) {
			path := filepath.Join(dir, "peers")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return LoadPeers(path, self)
		}
		peers, err := load(content, chain.PublicKey{})
		if err != nil {
			if peers != nil {
				t.Errorf("%d peers and the error %v", len(peers), err)
			}
			return
		}
		if file, err := peersfile.Read(filepath.Join(dir, "peers")); err != nil {
			t.Errorf("read again: %v", err)
		} else if c := file.Checkpoint; c != nil && (c.Height == 0 || c.Hash.IsZero()) || file.Target != nil && len(file.Target.Validators) > chain.MaxValidators {
			t.Errorf("checkpoint %+v, target %+v", c, file.Target)
		}
		file := PeersFile{Peers: []PeerEntry{}} // a missing list is refused
		keys := map[chain.PublicKey]bool{{}: true}
		for _, p := range peers {
			_, port, err := net.SplitHostPort(p.Address)
			if _, portErr := strconv.ParseUint(port, 10, 16); p.Address != "" && (err != nil || portErr != nil) {
				t.Errorf("address %q", p.Address)
			}
			if p.Name == "" || len(p.Name) > 63 || keys[p.Key] {
				t.Errorf("%q gives peer %+v", content, p)
			}
			keys[p.Key] = true
			file.Peers = append(file.Peers, PeerEntry{Name: p.Name, PublicKey: p.Key, Address: p.Address})
		}
		written, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		var read PeersFile
		if err := json.Unmarshal(written, &read); err != nil || !slices.Equal(read.Peers, file.Peers) {
			return // a name that is not UTF-8
		}
		if again, err := load(written, chain.PublicKey{}); err != nil || !slices.Equal(again, peers) {
			t.Errorf("%s is read as %+v, want %+v: %v", written, again, peers, err)
		}
		for i, p := range peers[:min(len(peers), 3)] {
			if others, err := load(content, p.Key); err != nil || !slices.Equal(others, slices.Delete(slices.Clone(peers), i, i+1)) {
				t.Errorf("%q is to peer %d %+v: %v", content, i, others, err)
			}
		}
	})
}
