package house

import (
	"fmt"
	"slices"
	"strings"
)

// A room is a package and the packages below it, as far as they are not rooms of their own. Every
// package of the module belongs to one.
type room struct {
	path  string // below the module
	duty  string
	may   []string // the other rooms that it imports, in its tests as well
	tests []string // the rooms that only its tests import
	never []ban    // it does not depend on these, even through others
	pure  bool     // its code, tests aside, is held to the rules of a deterministic machine
}

// bans are those of the room and those of its part of the house: nodes and their tools know nothing
// of Kubernetes, and nothing but a command depends on a command.
func (r room) bans() []ban {
	all := slices.Clone(r.never)
	if slices.ContainsFunc(withoutKubernetes, func(part string) bool { return under(r.path, part) }) {
		all = append(all, kubernetes)
	}
	if !under(r.path, "cmd") && !slices.Equal(r.may, anything) {
		all = append(all, commands)
	}
	return all
}

// withoutKubernetes are the parts of the house that never depend on it.
var withoutKubernetes = []string{"node", "internal", "client", "examples", "cmd/diseq"}

// A ban is a set of packages that a room never depends on. Paths are prefixes: of this module's
// packages, or of import paths of other modules and of the standard library.
type ban struct {
	name  string
	paths []string
}

var (
	kubernetes = ban{"Kubernetes", []string{"api", "controllers", "k8s.io", "sigs.k8s.io/controller-runtime"}}
	commands   = ban{"commands", []string{"cmd"}}
	wires      = ban{"`node/peer`, `node/server`, `node/store`", []string{"node/peer", "node/server", "node/store"}}
	nodes      = ban{"the node's own code", []string{"node/store", "node/peer", "node/server", "node/mempool", "node/trie"}}
	others     = ban{"other modules", []string{"*"}}
)

// anything is what a room may import that ships with no program.
var anything = []string{"*"}

// rooms is the plan of the house, from the bottom to the top.
var rooms = []room{
	{path: "internal/version", duty: "which build of a program runs", never: []ban{others}},
	{path: "internal/memory", duty: "the memory that the garbage collector lets a process reach"},
	{path: "internal/document", duty: "JSON documents, read in one way only"},
	{path: "internal/durable", duty: "files that a power cut does not take", never: []ban{others}},
	{path: "node/internal/sha256lanes", duty: "SHA-256 of many messages side by side"},
	{path: "node/chain", duty: "messages, blocks, votes, certificates, receipts and their encodings",
		may: []string{"internal/document", "node/internal/sha256lanes"}},
	{path: "node/vrf", duty: "the ZK-VRF, the beacon and the order of leaders"},
	{path: "node/trie", duty: "the Merkle Patricia trie of message ids and its proofs",
		may: []string{"internal/document", "internal/durable", "node/internal/sha256lanes", "node/internal/sqlitefile"}},
	{path: "node/internal/mutation", duty: "names the rules that a test takes away", never: []ban{others}},
	{path: "node/internal/disk", duty: "the free space of a disk"},
	{path: "node/internal/sqlitefile", duty: "one SQLite file: lock, schema, damage, checkpoints",
		may: []string{"internal/durable", "node/internal/disk"}},
	{path: "node/internal/appendlog", duty: "an append-only, checksummed log in segment files",
		may: []string{"internal/durable", "node/internal/sqlitefile"}},
	{path: "node/internal/yamlfile", duty: "the YAML files that configure a node",
		may: []string{"internal/document"}},
	{path: "node/internal/wait", duty: "pauses that end with a context", never: []ban{others}},
	{path: "node/internal/tasks", duty: "goroutines that end with the node", never: []ban{others}},
	{path: "node/internal/trace", duty: "follows single messages through a network with OpenTelemetry", may: []string{"node/chain"}},
	{path: "node/internal/seats", duty: "shares what is bounded among clients that compete for it", never: []ban{others}},
	{path: "node/consensus", duty: "the state machine that decides one block for each height",
		may: []string{"node/chain", "node/internal/mutation"}, never: []ban{wires}, pure: true},
	{path: "node/simulation", duty: "consensus against an adversary in virtual time",
		may: []string{"node/chain", "node/consensus", "node/internal/mutation"}, never: []ban{wires}},
	{path: "node/identity", duty: "the keys of a node",
		may: []string{"internal/document", "internal/durable", "node/chain", "node/vrf"}, never: []ban{wires}},
	{path: "node/mempool", duty: "messages that wait for their place in the order",
		may: []string{"node/chain"}, never: []ban{wires}},
	{path: "node/store", duty: "the log of messages, and the databases of blocks and votes",
		may:   []string{"internal/durable", "node/chain", "node/internal/appendlog", "node/internal/sqlitefile"},
		tests: []string{"hack/skipped"}},
	{path: "node/peer", duty: "connections between the nodes of a chain",
		may: []string{"node/chain", "node/internal/wait"}},
	{path: "node/peersfile", duty: "the peers file: where the other nodes are",
		may: []string{"node/chain", "node/internal/wait", "node/internal/yamlfile"}},
	{path: "node/access", duty: "clients of the public listener: identities, rights, limits",
		may: []string{"node/internal/seats", "node/internal/wait", "node/internal/yamlfile"}, never: []ban{wires}},
	{path: "node/server", duty: "the HTTP interface of a node",
		may: []string{"node/access", "node/chain", "node/internal/seats", "node/trie"}, tests: []string{"internal/document"}},
	{path: "node/verify", duty: "the signatures of everything that peers send",
		may: []string{"node/chain", "node/internal/wait"}, never: []ban{wires}},
	{path: "node/ledger", duty: "the final chain: tip, blocks, validator sets, beacon, order of the leaders",
		may: []string{"node/chain", "node/vrf"}, never: []ban{wires}},
	{path: "node/state", duty: "keeps the trie up to date with the final blocks",
		may:   []string{"node/chain", "node/internal/wait", "node/ledger", "node/trie"},
		never: []ban{wires}},
	{path: "node/gossip", duty: "spreads VRF commitments and batches",
		may:   []string{"node/chain", "node/internal/tasks", "node/internal/wait", "node/ledger", "node/mempool", "node/vrf"},
		never: []ban{wires}},
	{path: "node/catchup", duty: "fetches the final blocks that this node lacks",
		may:   []string{"node/chain", "node/consensus", "node/internal/tasks", "node/internal/wait", "node/ledger", "node/verify"},
		never: []ban{wires}},
	{path: "node/guests", duty: "the peers that a node lets in",
		may: []string{"node/chain", "node/ledger", "node/peer", "node/peersfile"}},
	{path: "node/target", duty: "the next validator set: what is declared and endorsed",
		may:   []string{"node/chain", "node/consensus", "node/internal/wait", "node/ledger"},
		never: []ban{wires}},
	{path: "node/voter", duty: "drives the consensus core: events in, actions carried out",
		may:   []string{"node/chain", "node/consensus", "node/internal/tasks", "node/internal/wait", "node/ledger", "node/mempool"},
		tests: []string{"node/vrf"}, never: []ban{wires}},
	{path: "node/internal/patient", duty: "writes that wait for space on the disk",
		may: []string{"node/chain", "node/internal/wait", "node/store"}},
	{path: "node/internal/repair", duty: "replaces damaged blocks by copies from peers",
		may: []string{"node/chain", "node/internal/tasks", "node/internal/wait", "node/store"}},
	{path: "node/internal/metrics", duty: "the chain's progress as one node sees it",
		may: []string{"node/catchup", "node/chain", "node/internal/repair", "node/verify", "node/voter"}},
	{path: "node", duty: "configuration, assembly of the rooms, adapters between them",
		may: []string{"node/access", "node/catchup", "node/chain", "node/consensus", "node/gossip", "node/guests", "node/identity",
			"node/internal/disk", "node/internal/metrics", "node/internal/patient", "node/internal/repair", "node/internal/tasks",
			"node/internal/trace", "node/internal/wait", "node/internal/yamlfile", "node/ledger",
			"node/mempool", "node/peer", "node/peersfile", "node/server", "node/state", "node/store", "node/target",
			"node/trie", "node/verify", "node/voter", "node/vrf"},
		tests: []string{"hack/metricslist", "internal/document"}},
	{path: "client", duty: "the Go client, linked into foreign programs",
		may: []string{"internal/document", "node/chain", "node/trie"}, never: []ban{wires}},
	{path: "examples", duty: "programs to begin from: a log and a rollup on a chain",
		may: []string{"client", "node/chain"}, never: []ban{wires}},
	{path: "internal/clientcmd", duty: "the commands of users: submit, follow, verify; how commands print and fail",
		may: []string{"client", "internal/document", "internal/version", "node/chain", "node/consensus"}, never: []ban{wires}},
	{path: "internal/overview", duty: "a network as its nodes tell it, side by side",
		may: []string{"client", "internal/clientcmd", "node/chain"}, never: []ban{wires}},
	{path: "internal/dashboard", duty: "a network on a terminal, in programs for people",
		may: []string{"internal/overview"}, never: []ban{wires}},
	{path: "cmd/diseq", duty: "the command of node, user and auditor",
		may: []string{"client", "internal/clientcmd", "internal/dashboard", "internal/document", "internal/durable", "internal/memory",
			"internal/overview", "internal/version", "node", "node/chain", "node/consensus", "node/identity", "node/peersfile", "node/store",
			"node/vrf"},
		tests: []string{"node/simulation"}},
	{path: "api", duty: "the resource DiseqNetwork"},
	{path: "controllers/nodeclient", duty: "requests of the operator to nodes",
		may: []string{"node/chain"}, never: []ban{nodes}},
	{path: "controllers/membership", duty: "the decision which pod is deleted next",
		may: []string{"controllers/nodeclient", "node/chain", "node/consensus"}, never: []ban{nodes}},
	{path: "controllers/status", duty: "conditions, counts and members of the status",
		may:   []string{"api", "controllers/membership", "controllers/nodeclient", "node/chain", "node/consensus"},
		never: []ban{nodes}},
	{path: "controllers/resources", duty: "one pure function for each Kubernetes object",
		may: []string{"api", "node/access", "node/chain"}, tests: []string{"node/identity"}, never: []ban{nodes}},
	{path: "controllers", duty: "the reconciler: observe, plan, act, report",
		may: []string{"api", "controllers/membership", "controllers/nodeclient", "controllers/resources",
			"controllers/status", "node/access", "node/chain", "node/identity"},
		tests: []string{"hack/metricslist"}, never: []ban{nodes}},
	{path: "cmd/operator", duty: "the operator's process",
		may:   []string{"controllers", "controllers/nodeclient", "controllers/resources", "internal/memory", "internal/version"},
		never: []ban{nodes}},
	{path: "cmd/kubectl-diseq", duty: "the plugin of kubectl: a network in a cluster, for those who run and use it",
		may: []string{"api", "client", "controllers/resources", "controllers/status", "internal/clientcmd", "internal/version",
			"node/chain"},
		tests: []string{"internal/document"}, never: []ban{wires}},
	{path: "hack/metricslist", duty: "the list of the metrics of a program"},
	{path: "hack/skipped", duty: "reports the tests that a machine cannot run"},
	{path: "hack", duty: "tools for development", may: anything},
	{path: "test", duty: "suites of whole nodes, processes and clusters", may: anything},
}

// doors are the other modules that only a few rooms import, for all.
var doors = []struct {
	imported string
	rooms    []string
}{
	{"charm.land/bubbletea", []string{"internal/dashboard"}},
	{"charm.land/lipgloss", []string{"internal/dashboard"}},
	{"github.com/KimMachineGun/automemlimit", []string{"internal/memory"}},
	{"github.com/consensys/gnark", []string{"node/vrf"}},
	{"github.com/go-jose/go-jose", []string{"node/access"}},
	{"github.com/go-json-experiment/json", []string{"internal/document", "node/server"}},
	{"github.com/schollz/progressbar", []string{"internal/dashboard"}},
	{"go.opentelemetry.io/otel", []string{"node/internal/trace"}},
	{"google.golang.org/grpc", []string{"node/peer"}},
	{"modernc.org/sqlite", []string{"node/internal/sqlitefile"}},
}

// outside are the packages of the standard library that a deterministic machine does not import.
var outside = []string{
	"crypto/rand", "database", "io", "log", "math/rand", "net", "os", "sync", "syscall",
}

const module = "github.com/diseq/diseq"

// A graph is the packages of the module and all that they depend on, by import path.
type graph map[string]*pkg

type pkg struct {
	ImportPath                         string
	Standard                           bool
	Imports, TestImports, XTestImports []string
}

// local is a package's path below the module; ok is false for one of another module.
func local(importPath string) (path string, ok bool) {
	return strings.CutPrefix(importPath, module+"/")
}

// under reports whether a path is the prefix or below it.
func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// roomOf is the room with the longest path that a package is in.
func roomOf(path string) (in room, ok bool) {
	for _, r := range rooms {
		if under(path, r.path) && (!ok || len(r.path) > len(in.path)) {
			in, ok = r, true
		}
	}
	return in, ok
}

// violations are the imports that the plan forbids, in words, in the order of the packages.
func violations(g graph) (all []string) {
	for _, p := range g {
		path, ok := local(p.ImportPath)
		if !ok {
			continue
		}
		r, ok := roomOf(path)
		if !ok {
			all = append(all, fmt.Sprintf("%s is in no room: add it to test/house/rooms.go", path))
			continue
		}
		for _, imported := range p.Imports {
			all = append(all, r.refuses(path, imported, r.may)...)
			if r.pure {
				all = append(all, impure(path, imported, g)...)
			}
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if _, ours := local(imported); ours {
				all = append(all, r.refuses(path, imported, slices.Concat(r.may, r.tests))...)
			}
		}
		for _, b := range r.bans() {
			if way := g.way(p.ImportPath, b); way != nil {
				all = append(all, fmt.Sprintf("%s never depends on %s, and does: %s", r.path, b.name, strings.Join(way, " -> ")))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (r room) refuses(path, imported string, may []string) []string {
	target, ok := local(imported)
	if !ok {
		for _, d := range doors {
			if under(imported, d.imported) && !slices.Contains(d.rooms, r.path) && !slices.Contains(may, "*") {
				return []string{fmt.Sprintf("%s imports %s: only %s does that, for all", path, imported, list(d.rooms))}
			}
		}
		return nil
	}
	to, _ := roomOf(target)
	if to.path == r.path || slices.Contains(may, to.path) || slices.Contains(may, "*") {
		return nil
	}
	return []string{fmt.Sprintf("%s imports %s: %s may import %s of this module", path, target, r.path, list(may))}
}

// impure names an import that brings in I/O, chance, locks or code that the rule cannot see.
func impure(path, imported string, g graph) []string {
	if _, ok := local(imported); ok {
		return nil
	}
	if p := g[imported]; p == nil || !p.Standard {
		return []string{fmt.Sprintf("%s imports %s: it imports no other module", path, imported)}
	}
	for _, o := range outside {
		if under(imported, o) {
			return []string{fmt.Sprintf("%s imports %s: its input comes as events and its output leaves as actions", path, imported)}
		}
	}
	return nil
}

// way is a shortest chain of imports from a package to one of the ban, nil if there is none. Tests
// are left out: they are not linked.
func (g graph) way(from string, b ban) []string {
	came := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at != from && b.has(at, g) {
			var way []string
			for ; at != ""; at = came[at] {
				way = append([]string{strings.TrimPrefix(at, module+"/")}, way...)
			}
			return way
		}
		if g[at] == nil {
			continue
		}
		for _, next := range g[at].Imports {
			if _, seen := came[next]; !seen {
				came[next] = at
				queue = append(queue, next)
			}
		}
	}
	return nil
}

func (b ban) has(importPath string, g graph) bool {
	path, ours := local(importPath)
	if slices.Equal(b.paths, others.paths) {
		return !ours && (g[importPath] == nil || !g[importPath].Standard)
	}
	if !ours {
		path = importPath
	}
	return slices.ContainsFunc(b.paths, func(prefix string) bool { return under(path, prefix) })
}

func list(paths []string) string {
	if len(paths) == 0 {
		return "nothing"
	}
	return strings.Join(paths, ", ")
}

// roomsTable is the plan as docs/architecture.md shows it.
func roomsTable() string {
	var b strings.Builder
	b.WriteString("| room | duty | imports | never depends on |\n|---|---|---|---|\n")
	quote := func(paths []string) string {
		if slices.Equal(paths, anything) {
			return "anything"
		}
		quoted := make([]string, len(paths))
		for i, p := range paths {
			quoted[i] = "`" + p + "`"
		}
		return strings.Join(quoted, ", ")
	}
	for _, r := range rooms {
		imports := quote(r.may)
		for _, d := range doors {
			if slices.Contains(d.rooms, r.path) {
				imports = strings.TrimPrefix(imports+"; outside: "+quote([]string{d.imported}), "; ")
			}
		}
		if len(r.tests) > 0 {
			imports = strings.TrimPrefix(imports+"; its tests "+quote(r.tests), "; ")
		}
		var never []string
		for _, n := range r.never {
			never = append(never, n.name)
		}
		if r.pure {
			never = append(never, "files, network, clocks, randomness, locks", "other modules")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.path, r.duty, imports, strings.Join(never, ", "))
	}
	return b.String()
}
