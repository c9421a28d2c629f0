package node

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/trace"
	"github.com/diseq/diseq/node/internal/yamlfile"
	"github.com/diseq/diseq/node/peersfile"
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
	// Files are those of the public listener's TLS, and of who may do what there.
	access.Files
	Limits Limits `json:"limits"`
	// Hosts are the names by which clients ask for a node that listens on loopback, beside
	// localhost and addresses: such as that of a proxy on the same machine that passes the name on.
	Hosts []string `json:"hosts,omitempty"`
	// Drain is for how long a node that is asked to stop goes on serving clients, not ready: as
	// long as whatever leads clients to nodes takes to notice. 0 to 10 min; 0 for a node that its
	// clients know by its address.
	Drain yamlfile.Duration `json:"drain"`
	// Explorer serves the page that shows the chain at / of the public listener.
	Explorer bool `json:"explorer"`
	// LogLevel is debug, info, warn or error; LogFormat is text or json.
	LogLevel  string `json:"logLevel"`
	LogFormat string `json:"logFormat"`
	// Tracing follows messages with OpenTelemetry; without an endpoint there is none of it.
	Tracing trace.Options `json:"tracing,omitzero"`
	// PProf serves /debug/pprof on the operations listener.
	PProf bool `json:"pprof"`
	// CreateVoteStore states that the data directory is this validator's first one, so that the
	// node may make its vote store there if the directory is empty. Where this cannot be known,
	// leave it out: a validator without its vote store rejoins, one that votes from an empty store
	// can break agreement (consensus.md). `diseq init` makes the store by itself. It has no effect
	// once the node's entry of the peers file says that the store was made.
	CreateVoteStore bool `json:"createVoteStore"`
	// VoteWhenRecorded makes a node whose vote store is empty wait before its first vote, until its
	// entry of the peers file says that the store was made. The writer of the file then knows of
	// every validator without that record that it has never voted.
	VoteWhenRecorded bool `json:"voteWhenRecorded"`
}

// Listen are the addresses of the listeners, host:port. Port 0 takes a free one.
type Listen struct {
	// Public serves clients, Peer the other nodes, Operations metrics and probes: the last one
	// belongs on a private network.
	Public     string `json:"public"`
	Peer       string `json:"peer"`
	Operations string `json:"operations"`
	// Probes serves /livez and /readyz alone, to whatever supervises the node. Empty is for no such
	// listener: the operations listener serves them too.
	Probes string `json:"probes"`
}

// Limits bound what the node uses.
type Limits struct {
	// MaxPoolBytes bounds the messages that wait to be ordered.
	MaxPoolBytes yamlfile.Bytes `json:"maxPoolBytes"`
	// HistoryHeights is for how many of the last heights trie roots and proofs are kept.
	HistoryHeights uint32 `json:"historyHeights"`
	// Connections and Streams are how many clients may have open at a time, AnswerBytes how much
	// memory answers take that clients have not taken yet. Idle ones give way to newcomers.
	Connections int            `json:"connections"`
	Streams     int            `json:"streams"`
	AnswerBytes yamlfile.Bytes `json:"answerBytes"`
}

// DefaultConfig returns the values of fields that a file leaves out.
func DefaultConfig() Config {
	return Config{
		Genesis: "genesis.json", Keys: "keys", Data: "data", Peers: "peers.json",
		Listen: Listen{Public: "127.0.0.1:18080", Peer: "127.0.0.1:18180", Operations: "127.0.0.1:18280"},
		Limits: Limits{
			MaxPoolBytes: 256 << 20, HistoryHeights: 1024, Connections: 1024, Streams: 256, AnswerBytes: 32 << 20,
		},
		Explorer: true, LogLevel: "info", LogFormat: "text",
	}
}

var hostForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

const (
	// maxHistoryHeights is the trie's limit.
	maxHistoryHeights = 1 << 16
	maxDrain          = 10 * time.Minute
)

// LoadConfig reads a configuration file. Unknown fields are refused, and the error names the field
// that is wrong. Paths in the result are absolute. The overrides change what the file says before
// it is checked, so that it may leave those fields out.
func LoadConfig(path string, overrides ...func(*Config)) (Config, error) {
	raw, err := yamlfile.Read(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c := DefaultConfig()
	if err := yamlfile.Unmarshal(raw, &c); err != nil {
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
	c.Files.Resolve(base)
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
		{"listen.probes", c.Listen.Probes},
	} {
		if a.field == "listen.probes" && a.value == "" {
			continue // there need not be one
		}
		port, err := peersfile.CheckAddress(a.value)
		if err != nil {
			return fmt.Errorf("%s: %w", a.field, err)
		}
		if other := taken[a.value]; other != "" && port != 0 {
			return fmt.Errorf("%s: %s is taken by %s", a.field, a.value, other)
		}
		taken[a.value] = a.field
	}
	if err := c.Files.Validate(); err != nil {
		return err
	}
	if err := c.Limits.validate(); err != nil {
		return err
	}
	for i, host := range c.Hosts {
		if len(host) > 253 || !hostForm.MatchString(host) {
			return fmt.Errorf("hosts[%d] %q: want a host name in lower case, without a port", i, host)
		}
	}
	if d := time.Duration(c.Drain); d < 0 || d > maxDrain {
		return fmt.Errorf("drain: %v, allowed are 0s to %v", d, maxDrain)
	}
	if _, ok := server.ParseLogLevel(c.LogLevel); !ok {
		return fmt.Errorf("logLevel %q: want debug, info, warn or error", c.LogLevel)
	}
	if err := c.Tracing.Validate(); err != nil {
		return err
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("logFormat %q: want text or json", c.LogFormat)
	}
	return nil
}

func (l *Limits) validate() error {
	if low := yamlfile.Bytes(1 << 20); l.MaxPoolBytes < low {
		return fmt.Errorf("limits.maxPoolBytes: %d, want at least %d", l.MaxPoolBytes, low)
	}
	for _, b := range []struct {
		field     string
		value     int64
		low, high int64
	}{
		{"historyHeights", int64(l.HistoryHeights), chain.MaxStateLag, maxHistoryHeights},
		{"connections", int64(l.Connections), 16, 1 << 16},
		{"streams", int64(l.Streams), 1, 1 << 16},
		{"answerBytes", int64(l.AnswerBytes), 8 << 20, 16 << 30},
	} {
		if b.value < b.low || b.value > b.high {
			return fmt.Errorf("limits.%s: %d, allowed are %d to %d", b.field, b.value, b.low, b.high)
		}
	}
	return nil
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
