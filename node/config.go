package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	goyaml "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/server"
)

// Config is a node's configuration: node.yaml. The genesis document holds everything that the
// whole chain has to agree on.
type Config struct {
	// Name is what people know the node by: 1 to 63 bytes. It appears in logs, metrics and
	// /v1/status.
	Name string `json:"name"`
	// Genesis is the file of the genesis document, Keys the directory of the identity (see
	// identity.Load), Data the directory of all that the node remembers, Peers the file that says
	// where its peers are (see LoadPeers). Relative paths are relative to the directory of the
	// configuration file.
	Genesis string `json:"genesis"`
	Keys    string `json:"keys"`
	Data    string `json:"data"`
	Peers   string `json:"peers"`
	Listen  Listen `json:"listen"`
	Limits  Limits `json:"limits"`
	// LogLevel is debug, info, warn or error; LogFormat is text or json.
	LogLevel  string `json:"logLevel"`
	LogFormat string `json:"logFormat"`
	// PProf serves /debug/pprof on the operations listener.
	PProf bool `json:"pprof"`
	// CreateVoteStore states that the data directory is this validator's first one, so that the
	// node may make its vote store there if the directory is empty. Where this cannot be known,
	// leave it out: a validator without its vote store rejoins, one that votes from an empty store
	// can break agreement (consensus.md). `diseq init` makes the store by itself. It has no effect
	// once the node's entry of the peers file says that the store was made.
	CreateVoteStore bool `json:"createVoteStore"`
}

// Listen are the addresses of the three listeners, host:port. Port 0 takes a free one.
type Listen struct {
	// Public serves clients, Peer the other nodes, Operations metrics and probes: the last one
	// belongs on a private network.
	Public     string `json:"public"`
	Peer       string `json:"peer"`
	Operations string `json:"operations"`
}

// Limits bound what the node uses.
type Limits struct {
	// MaxPoolBytes bounds the messages that wait to be ordered.
	MaxPoolBytes Bytes `json:"maxPoolBytes"`
	// HistoryHeights is for how many of the last heights trie roots and proofs are kept.
	HistoryHeights uint32 `json:"historyHeights"`
}

// Bytes is a number of bytes: in YAML a number, or a string with one of the suffixes Ki, Mi, Gi, k,
// M, G.
type Bytes int64

var byteSuffixes = []struct {
	suffix string
	factor int64
}{{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}}

// UnmarshalJSON reads a number or a string with a suffix.
func (b *Bytes) UnmarshalJSON(in []byte) error {
	text := strings.Trim(string(in), `"`)
	digits, factor := text, int64(1)
	for _, s := range byteSuffixes {
		if d, ok := strings.CutSuffix(text, s.suffix); ok {
			digits, factor = d, s.factor
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return fmt.Errorf("%s is not a number of bytes: want one such as 1048576 or \"256Mi\"", in)
	}
	*b = Bytes(n * factor)
	return nil
}

// MarshalJSON writes the number, with a suffix if it is a whole number of MiB.
func (b Bytes) MarshalJSON() ([]byte, error) {
	if b > 0 && b%(1<<20) == 0 {
		return json.Marshal(strconv.FormatInt(int64(b>>20), 10) + "Mi")
	}
	return json.Marshal(int64(b))
}

// DefaultConfig returns the values of fields that a file leaves out.
func DefaultConfig() Config {
	return Config{
		Genesis: "genesis.json", Keys: "keys", Data: "data", Peers: "peers.json",
		Listen:   Listen{Public: "127.0.0.1:18080", Peer: "127.0.0.1:18180", Operations: "127.0.0.1:18280"},
		Limits:   Limits{MaxPoolBytes: 256 << 20, HistoryHeights: 1024},
		LogLevel: "info", LogFormat: "text",
	}
}

// maxHistoryHeights is the trie's limit.
const maxHistoryHeights = 1 << 16

// maxConfigBytes bounds the configuration and the peers file.
const maxConfigBytes = 1 << 20

// LoadConfig reads a configuration file. Unknown fields are refused, and the error names the field
// that is wrong. Paths in the result are absolute. The overrides change what the file says before
// it is checked, so that it may leave those fields out.
func LoadConfig(path string, overrides ...func(*Config)) (Config, error) {
	raw, err := readLimited(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c := DefaultConfig()
	if err := unmarshalYAML(raw, &c); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	for _, override := range overrides {
		override(&c)
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	base, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	for _, p := range []*string{&c.Genesis, &c.Keys, &c.Data, &c.Peers} {
		if !filepath.IsAbs(*p) {
			*p = filepath.Join(base, *p)
		}
	}
	return c, nil
}

// Validate checks every field; the error names the one that is wrong and what is allowed.
func (c *Config) Validate() error {
	if c.Name == "" || len(c.Name) > 63 {
		return fmt.Errorf("name %q: want 1 to 63 bytes", c.Name)
	}
	for _, p := range []struct{ field, value string }{{"genesis", c.Genesis}, {"keys", c.Keys}, {"data", c.Data}, {"peers", c.Peers}} {
		if p.value == "" {
			return fmt.Errorf("%s: want a path", p.field)
		}
	}
	taken := map[string]string{}
	for _, a := range []struct{ field, value string }{
		{"listen.public", c.Listen.Public}, {"listen.peer", c.Listen.Peer}, {"listen.operations", c.Listen.Operations},
	} {
		port, err := checkAddress(a.value)
		if err != nil {
			return fmt.Errorf("%s: %w", a.field, err)
		}
		if other := taken[a.value]; other != "" && port != 0 {
			return fmt.Errorf("%s: %s is taken by %s", a.field, a.value, other)
		}
		taken[a.value] = a.field
	}
	if low := Bytes(1 << 20); c.Limits.MaxPoolBytes < low {
		return fmt.Errorf("limits.maxPoolBytes: %d, want at least %d", c.Limits.MaxPoolBytes, low)
	}
	if c.Limits.HistoryHeights < chain.MaxStateLag || c.Limits.HistoryHeights > maxHistoryHeights {
		return fmt.Errorf("limits.historyHeights: %d, allowed are %d to %d", c.Limits.HistoryHeights, chain.MaxStateLag, maxHistoryHeights)
	}
	if _, ok := server.ParseLogLevel(c.LogLevel); !ok {
		return fmt.Errorf("logLevel %q: want debug, info, warn or error", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("logFormat %q: want text or json", c.LogFormat)
	}
	return nil
}

// checkAddress checks host:port with a numeric port.
func checkAddress(address string) (port uint64, err error) {
	_, p, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.ParseUint(p, 10, 16)
	}
	if err != nil {
		return 0, fmt.Errorf("address %q: want host:port with a port from 0 to 65535", address)
	}
	return port, nil
}

// Logger returns a logger of the level and format configured, and its level, which may be changed
// later.
func (c *Config) Logger(w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)               // info
	at, _ := server.ParseLogLevel(c.LogLevel) // Validate reports another name
	level.Set(at)
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), level
	}
	return slog.New(slog.NewTextHandler(w, options)), level
}

// LoadGenesis reads the genesis document that the configuration names.
func (c *Config) LoadGenesis() (g *chain.Genesis, err error) {
	f, err := os.Open(c.Genesis)
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return chain.ReadGenesis(f)
}

// PeerEntry is a peer as the peers file shows it.
type PeerEntry struct {
	Name      string          `json:"name"`
	PublicKey chain.PublicKey `json:"public_key"`
	// Address is the host:port of the peer's peer listener; empty for one that is only let in.
	Address string `json:"address,omitempty"`
	// VoteStore says that the peer has made its vote store. It never makes one again: in the
	// node's own entry, this overrides CreateVoteStore.
	VoteStore bool `json:"vote_store,omitempty"`
}

// PeersFile is the peers file, JSON or YAML. It may name the node itself, so that all nodes can
// share one.
type PeersFile struct {
	Peers []PeerEntry `json:"peers"`
}

// maxPeers bounds the peers file.
const maxPeers = 1000

// LoadPeers reads a peers file; the node leaves out itself.
func LoadPeers(path string, self chain.PublicKey) ([]peer.Peer, error) {
	entries, err := readPeers(path)
	if err != nil {
		return nil, err
	}
	out := make([]peer.Peer, 0, len(entries))
	for _, p := range entries {
		if p.PublicKey != self {
			out = append(out, peer.Peer{Key: p.PublicKey, Name: p.Name, Address: p.Address})
		}
	}
	return out, nil
}

// madeVoteStore reports whether the peers file says of the node itself that it has made its vote
// store.
func madeVoteStore(path string, self chain.PublicKey) (bool, error) {
	entries, err := readPeers(path)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(p PeerEntry) bool { return p.PublicKey == self && p.VoteStore }), nil
}

// readPeers reads a peers file and checks every entry.
func readPeers(path string) ([]PeerEntry, error) {
	raw, err := readLimited(path)
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	var file PeersFile
	if err := unmarshalYAML(raw, &file); err != nil {
		return nil, fmt.Errorf("peers %s: %w", path, err)
	}
	if len(file.Peers) > maxPeers {
		return nil, fmt.Errorf("peers %s: %d peers, allowed are %d", path, len(file.Peers), maxPeers)
	}
	seen := map[chain.PublicKey]int{}
	for i, p := range file.Peers {
		if p.Name == "" || len(p.Name) > 63 {
			return nil, fmt.Errorf("peers %s: peers[%d].name %q: want 1 to 63 bytes", path, i, p.Name)
		}
		if j, ok := seen[p.PublicKey]; ok || p.PublicKey == (chain.PublicKey{}) {
			return nil, fmt.Errorf("peers %s: peers[%d].public_key %v: empty, or that of peers[%d]", path, i, p.PublicKey, j)
		}
		seen[p.PublicKey] = i
		if p.Address != "" {
			if _, err := checkAddress(p.Address); err != nil {
				return nil, fmt.Errorf("peers %s: peers[%d].address: %w", path, i, err)
			}
		}
	}
	return file.Peers, nil
}

func readLimited(path string) (out []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if out, err = io.ReadAll(io.LimitReader(f, maxConfigBytes+1)); err != nil {
		return nil, err
	}
	if len(out) > maxConfigBytes {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, maxConfigBytes)
	}
	return out, nil
}

// unmarshalYAML reads one document of YAML as JSON documents are read: exact names, each once, in
// UTF-8 without a byte order mark, and nothing behind.
func unmarshalYAML(raw []byte, v any) error {
	if !utf8.Valid(raw) || bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")) {
		return errors.New("want UTF-8 without a byte order mark")
	}
	text, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "))
	}
	documents := goyaml.NewDecoder(bytes.NewReader(raw))
	var first, second any
	_ = documents.Decode(&first) // it was read above
	if err := documents.Decode(&second); !errors.Is(err, io.EOF) {
		return errors.New("a second document follows the first")
	}
	if string(text) == "null" {
		return nil // nothing but comments
	}
	return document.Unmarshal(text, v)
}
