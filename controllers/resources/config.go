package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/node/chain"
)

// Where a node finds its files.
const (
	keysDir    = "/etc/diseq/keys"
	genesisDir = "/etc/diseq/genesis"
	configDir  = "/etc/diseq/config"
	peersDir   = "/etc/diseq/peers"
	dataDir    = "/data"
	scratchDir = "/tmp"
)

// nodeConfig has the parts of a node's configuration that differ from the defaults. All validators
// share the file; the node's name, and whether it may make its vote store, are flags.
type nodeConfig struct {
	Genesis   string      `json:"genesis"`
	Keys      string      `json:"keys"`
	Data      string      `json:"data"`
	Peers     string      `json:"peers"`
	Listen    nodeListen  `json:"listen"`
	Limits    *nodeLimits `json:"limits,omitempty"`
	LogFormat string      `json:"logFormat"`
}

type nodeListen struct {
	Public     string `json:"public"`
	Peer       string `json:"peer"`
	Operations string `json:"operations"`
}

type nodeLimits struct {
	MaxPoolBytes int64 `json:"maxPoolBytes"`
}

// NodeConfig is the text of node.yaml.
func NodeConfig(network *v1alpha1.DiseqNetwork) (string, error) {
	all := func(port int) string { return fmt.Sprintf(":%d", port) }
	c := nodeConfig{
		Genesis: path.Join(genesisDir, GenesisKey), Keys: keysDir, Data: dataDir, Peers: path.Join(peersDir, PeersKey),
		Listen:    nodeListen{Public: all(PublicPort), Peer: all(PeerPort), Operations: all(OperationsPort)},
		LogFormat: "json",
	}
	if q := network.Spec.Messages.MaxPoolBytes; q != nil {
		c.Limits = &nodeLimits{MaxPoolBytes: q.Value()}
	}
	out, err := yaml.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("%s: %w", ConfigKey, err)
	}
	return string(out), nil
}

// ConfigMap is the ConfigMap with node.yaml.
func ConfigMap(network *v1alpha1.DiseqNetwork) (*corev1ac.ConfigMapApplyConfiguration, error) {
	text, err := NodeConfig(network)
	if err != nil {
		return nil, err
	}
	return owned(network, networkLabels(network.Name),
		corev1ac.ConfigMap(ConfigName(network.Name), network.Namespace).WithData(map[string]string{ConfigKey: text})), nil
}

// configHash is the value of ConfigAnnotation.
func configHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// peersFile and peerEntry are the form of a node's peers file.
type peersFile struct {
	Peers []peerEntry `json:"peers"`
}

type peerEntry struct {
	Name      string          `json:"name"`
	PublicKey chain.PublicKey `json:"public_key"`
	Address   string          `json:"address"`
	VoteStore bool            `json:"vote_store,omitempty"`
}

// PeersConfigMap is the ConfigMap with the peers file of all members. A node does not connect to
// itself; it reads from its own entry whether it has made its vote store.
func PeersConfigMap(network *v1alpha1.DiseqNetwork, members []Member) (*corev1ac.ConfigMapApplyConfiguration, error) {
	file := peersFile{Peers: []peerEntry{}}
	for _, m := range bySerial(members) {
		name := ValidatorName(network.Name, m.Serial)
		file.Peers = append(file.Peers, peerEntry{
			Name: name, PublicKey: m.PublicKey, Address: PeerAddress(network.Name, network.Namespace, name),
			VoteStore: m.VoteStore,
		})
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", PeersKey, err)
	}
	return owned(network, networkLabels(network.Name),
		corev1ac.ConfigMap(PeersName(network.Name), network.Namespace).WithData(map[string]string{PeersKey: string(text) + "\n"})), nil
}
