// Package parts splits the CPU profile of a node by the work that the time went to: by the part of
// the node that did it, and by the kind of instruction. `make bench` divides the times by the
// messages that became final meanwhile.
//
// A sample belongs to the innermost room of the node on its stack, so that a hash that the trie
// computes is time of the trie. Shared rooms, such as node/chain with its encodings and hashes, are
// passed over: their time is that of their caller. Rooms are found by their import paths, so that a
// new room shows under its own name.
package parts

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// Times is processor time by name.
type Times map[string]time.Duration

// Sum is the time of all names.
func (t Times) Sum() time.Duration {
	var sum time.Duration
	for _, d := range t {
		sum += d
	}
	return sum
}

// Names are all names of some times, those with the most time first.
func Names(times ...Times) []string {
	all := Times{}
	for _, t := range times {
		for name, d := range t {
			all[name] += d
		}
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(all[b], all[a]), strings.Compare(a, b))
	})
	return names
}

// Split returns the time in a CPU profile by part of the node, and by kind of work.
func Split(p *profile.Profile) (byPart, byKind Times, err error) {
	value := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == "cpu" && t.Unit == "nanoseconds" })
	if value < 0 {
		return nil, nil, fmt.Errorf("the profile has no CPU time: is it a CPU profile? It has %v", p.SampleType)
	}
	byPart, byKind = Times{}, Times{}
	for _, s := range p.Sample {
		stack := frames(s)
		spent := time.Duration(s.Value[value])
		byPart[part(stack)] += spent
		byKind[kind(stack)] += spent
	}
	return byPart, byKind, nil
}

// frames are the names of the functions of a sample, the innermost first.
func frames(s *profile.Sample) []string {
	var out []string
	for _, l := range s.Location {
		for _, line := range l.Line {
			if line.Function != nil {
				out = append(out, line.Function.Name)
			}
		}
	}
	return out
}

const module = "github.com/diseq/diseq/"

// shared are the rooms whose time is that of their caller.
var shared = []string{
	"node/chain", "node/internal/tasks", "node/internal/wait", "node/internal/sqlitefile", "node/internal/appendlog", "internal/document",
	"internal/durable", "internal/memory", "cmd/diseq",
}

// A rule gives stacks on which a function of that name is found to a part or a kind.
type rule struct{ prefix, name string }

// finer splits rooms in which very different work is done, by a function anywhere on the stack: its
// name below the module, without the brackets of a receiver. A name that the code no longer has
// leaves the time with the room.
var finer = []rule{
	{"node/server.Server.submit", "node/server: submissions"},
	{"node/server.Server.accept", "node/server: submissions"},
	{"node/server.Server.stream", "node/server: streams"},
	{"node/server.Server.copyBlocks", "node/server: streams"},
	{"node/peer.link.", "node/peer: sending"},
	{"node/peer.service.", "node/peer: receiving"},
	{"node/mempool.Pool.Submit", "node/mempool: submissions"},
	{"node/mempool.Pool.Receive", "node/mempool: receiving"},
}

// outside are the parts of stacks without a room: by a function anywhere on them.
var outside = []rule{
	{"runtime.gcBgMarkWorker", "garbage collector"},
	{"runtime.bgsweep", "garbage collector"},
	{"runtime.bgscavenge", "garbage collector"},
	{"google.golang.org/grpc", "gRPC and TLS"},
	{"crypto/tls", "gRPC and TLS"},
	{"modernc.org/", "SQLite"},
	{"net/http", "HTTP"},
	{"runtime.mcall", "scheduler"},
	{"runtime.mstart", "scheduler"},
	{"runtime.morestack", "scheduler"},
	{"runtime.systemstack", "scheduler"},
}

// Other is the part or kind of everything that no rule names.
const Other = "other"

func part(stack []string) string {
	root := false
	for _, f := range stack {
		room, ok := roomOf(f)
		switch {
		case !ok || slices.Contains(shared, room):
		case room == "node": // the adapters between rooms: one further out says more
			root = true
		default:
			return fine(room, stack)
		}
	}
	if root {
		return "node: between the rooms"
	}
	return first(outside, stack)
}

// fine returns the finer part of a room that the stack tells, else the room.
func fine(room string, stack []string) string {
	for _, r := range finer {
		if strings.HasPrefix(r.prefix, room+".") && slices.ContainsFunc(stack, func(f string) bool {
			return strings.HasPrefix(plain(f), module+r.prefix)
		}) {
			return r.name
		}
	}
	return room
}

// roomOf is the package of one of our functions, below the module.
func roomOf(function string) (room string, ok bool) {
	below, ok := strings.CutPrefix(function, module)
	if !ok {
		return "", false
	}
	below, _, _ = strings.Cut(below, "[") // type arguments name packages, too
	slash := strings.LastIndexByte(below, '/') + 1
	dot := strings.IndexByte(below[slash:], '.')
	if dot < 0 {
		return below, true
	}
	return below[:slash+dot], true
}

// plain is a function's name without the brackets and the star of a receiver.
func plain(function string) string { return strings.NewReplacer("(*", "", ")", "").Replace(function) }

// kinds are those of stacks, by their innermost functions: the first rule that names any of them.
var kinds = []struct {
	name string
	// leaf are prefixes of the innermost function; anywhere are those of any function.
	leaf, anywhere []string
}{
	{name: "allocation and garbage collection",
		leaf: []string{"runtime.mallocgc", "runtime.scan", "runtime.grey", "runtime.gc", "runtime.sweep", "runtime.(*gcWork", "runtime.(*mspan",
			"runtime.(*mcache", "runtime.(*mcentral", "runtime.(*mheap", "runtime.(*sweep", "runtime.newobject", "runtime.makeslice",
			"runtime.growslice", "runtime.wb", "runtime.bulkBarrier", "runtime.nextFree", "runtime.heapSetType", "runtime.(*pageAlloc"},
		anywhere: []string{"runtime.gcBgMarkWorker", "runtime.mallocgc", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.bgscavenge"}},
	{name: "system calls", leaf: []string{"internal/runtime/syscall", "runtime/internal/syscall", "syscall.", "internal/syscall/"}},
	{name: "scheduling", leaf: []string{"runtime.futex", "runtime.usleep", "runtime.epoll", "runtime.osyield", "runtime.procyield"},
		anywhere: []string{"runtime.schedule", "runtime.findRunnable", "runtime.park_m", "runtime.mstart"}},
	{name: "SHA-256", anywhere: []string{"crypto/internal/fips140/sha256.", "crypto/sha256.", "github.com/minio/sha256-simd."}},
	{name: "Ed25519", anywhere: []string{"crypto/internal/fips140/ed25519.", "crypto/ed25519.", "crypto/internal/fips140/edwards25519",
		"filippo.io/edwards25519"}},
	{name: "AES-GCM", anywhere: []string{"crypto/internal/fips140/aes"}},
	{name: "CRC", anywhere: []string{"hash/crc32.", "hash/crc64."}},
	{name: "copies of memory", leaf: []string{"runtime.memmove", "runtime.memclr", "runtime.typedmemmove", "runtime.duffcopy",
		"runtime.duffzero", "runtime.typedslicecopy"}},
	{name: "maps", leaf: []string{"internal/runtime/maps.", "runtime.map", "runtime.memhash", "runtime.aeshash", "runtime.strhash",
		"runtime.memequal", "github.com/greatroar/blobloom"}},
	{name: "SQLite", leaf: []string{"modernc.org/"}},
	{name: "gRPC and protobuf", leaf: []string{"google.golang.org/"}},
	{name: "TLS and TCP", anywhere: []string{"crypto/tls."}},
	{name: "DISEQ's own code", leaf: []string{module}},
	{name: "encodings", leaf: []string{"encoding/", "github.com/go-json-experiment/", "strconv.", "internal/strconv."}},
	{name: "scheduling", leaf: []string{"runtime.", "sync.", "internal/sync.", "internal/runtime/"}},
}

func kind(stack []string) string {
	if len(stack) == 0 {
		return Other
	}
	for _, k := range kinds {
		if begins(stack[0], k.leaf) || slices.ContainsFunc(stack, func(f string) bool { return begins(f, k.anywhere) }) {
			return k.name
		}
	}
	return Other
}

func begins(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// first returns the name of the first rule that a function of the stack is named by.
func first(rules []rule, stack []string) string {
	for _, r := range rules {
		if slices.ContainsFunc(stack, func(f string) bool { return strings.HasPrefix(f, r.prefix) }) {
			return r.name
		}
	}
	return Other
}
