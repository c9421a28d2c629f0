package resources

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"path"

	corev1 "k8s.io/api/core/v1"
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
	Genesis string      `json:"genesis"`
	Keys    string      `json:"keys"`
	Data    string      `json:"data"`
	Peers   string      `json:"peers"`
	Listen  nodeListen  `json:"listen"`
	Limits  *nodeLimits `json:"limits,omitempty"`
	TLS     *nodeTLS    `json:"tls,omitempty"`
	Access  string      `json:"access,omitempty"`
	Drain   string      `json:"drain"`
	// Explorer is left out unless it is false: a node older than the page refuses the field.
	Explorer  *bool        `json:"explorer,omitempty"`
	LogFormat string       `json:"logFormat"`
	Tracing   *nodeTracing `json:"tracing,omitempty"`
	// VoteWhenRecorded makes a node wait before its first vote for the record of its vote store.
	VoteWhenRecorded bool `json:"voteWhenRecorded"`
}

type nodeListen struct {
	Public     string `json:"public"`
	Peer       string `json:"peer"`
	Operations string `json:"operations"`
	Probes     string `json:"probes"`
}

// nodeTLS is about the public listener.
type nodeTLS struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	ClientCA    string `json:"clientCA,omitempty"`
	MinVersion  string `json:"minVersion"`
}

type nodeLimits struct {
	MaxPoolBytes int64 `json:"maxPoolBytes"`
}

type nodeTracing struct {
	Endpoint               string `json:"endpoint"`
	SamplingRatePerMillion int32  `json:"samplingRatePerMillion,omitempty"`
}

// NodeConfig is the text of node.yaml.
func NodeConfig(network *v1alpha1.DiseqNetwork) (string, error) {
	all := func(port int) string { return fmt.Sprintf(":%d", port) }
	c := nodeConfig{
		Genesis: path.Join(genesisDir, GenesisKey), Keys: keysDir, Data: dataDir, Peers: path.Join(peersDir, PeersKey),
		Listen:    nodeListen{Public: all(PublicPort), Peer: all(PeerPort), Operations: all(OperationsPort), Probes: all(ProbesPort)},
		Drain:     drain(network).String(),
		LogFormat: "json", VoteWhenRecorded: true,
	}
	if q := network.Spec.Messages.MaxPoolBytes; q != nil {
		c.Limits = &nodeLimits{MaxPoolBytes: q.Value()}
	}
	if t := network.Spec.Tracing; t != nil {
		c.Tracing = &nodeTracing{Endpoint: t.Endpoint, SamplingRatePerMillion: t.SamplingRatePerMillion}
	}
	if e := network.Spec.Service.Explorer; e != nil && !*e {
		c.Explorer = e
	}
	if HasAccessFile(network) {
		c.Access = path.Join(accessDir, AccessKey)
	}
	if t := tlsOf(network); t != nil {
		c.TLS = &nodeTLS{
			Certificate: path.Join(tlsDir, certificateFile), Key: path.Join(tlsDir, keyFile), MinVersion: cmp.Or(t.MinVersion, "1.3"),
		}
		if t.ClientCA != nil {
			c.TLS.ClientCA = path.Join(clientCADir, clientCAFile)
		}
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

// textHash is the value of ConfigAnnotation and of PeersAnnotation.
func textHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// PeersFile is a node's peers file: where the other nodes are, and which validator set is to come
// next.
type PeersFile struct {
	Peers []PeerEntry `json:"peers"`
	// Target is the set that the validators are to endorse; nil if they are to endorse none.
	Target *chain.Target `json:"target,omitempty"`
	// Checkpoint is the header of the last change of the set; nil before the first.
	Checkpoint *chain.Checkpoint `json:"checkpoint,omitempty"`
}

// PeerEntry is one node of a peers file.
type PeerEntry struct {
	Name      string          `json:"name"`
	PublicKey chain.PublicKey `json:"public_key"`
	Address   string          `json:"address"`
	VoteStore bool            `json:"vote_store,omitempty"`
	// NamedFor is the generation of the newest set that a target asked for with this node in it; 0
	// if no target did. It is NamedUnknown if the record was lost.
	NamedFor uint32 `json:"named_for,omitempty"`
}

// NamedUnknown is the generation of an entry whose record was lost: a target of the present
// generation may have named it.
const NamedUnknown = math.MaxUint32

// PeersConfigMap is the ConfigMap with the peers file of all members, by serial number. A node does
// not connect to itself; it reads from its own entry whether it has made its vote store.
func PeersConfigMap(
	network *v1alpha1.DiseqNetwork, members []Member, target *chain.Target, checkpoint *chain.Checkpoint,
) (*corev1ac.ConfigMapApplyConfiguration, error) {
	file := PeersFile{Peers: []PeerEntry{}, Target: target, Checkpoint: checkpoint}
	for _, m := range bySerial(members) {
		name := ValidatorName(network.Name, m.Serial)
		file.Peers = append(file.Peers, PeerEntry{
			Name: name, PublicKey: m.PublicKey, Address: PeerAddress(network.Name, network.Namespace, name),
			VoteStore: m.VoteStore, NamedFor: m.NamedFor,
		})
	}
	raw, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", PeersKey, err)
	}
	text := string(raw) + "\n"
	return owned(network, networkLabels(network.Name),
		corev1ac.ConfigMap(PeersName(network.Name), network.Namespace).
			WithAnnotations(map[string]string{PeersAnnotation: textHash(text)}).
			WithData(map[string]string{PeersKey: text})), nil
}

// ReadPeers reads the peers file from its ConfigMap. It fails if the text is not the one that the
// operator wrote: somebody else's entries, or missing ones, say nothing about who was named.
func ReadPeers(configMap *corev1.ConfigMap) (*PeersFile, error) {
	text := configMap.Data[PeersKey]
	if textHash(text) != configMap.Annotations[PeersAnnotation] {
		return nil, fmt.Errorf("ConfigMap %s: %s was changed by somebody else", configMap.Name, PeersKey)
	}
	file := &PeersFile{}
	if err := json.Unmarshal([]byte(text), file); err != nil {
		return nil, fmt.Errorf("ConfigMap %s: %s: %w", configMap.Name, PeersKey, err)
	}
	return file, nil
}
