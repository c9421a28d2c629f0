package parts

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"
)

// sampled makes a profile of stacks, the innermost function first, each of a time.
func sampled(spent map[time.Duration][]string) *profile.Profile {
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}}
	for d, stack := range spent {
		s := &profile.Sample{Value: []int64{1, int64(d)}}
		for _, f := range stack {
			s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: f}}}})
		}
		p.Sample = append(p.Sample, s)
	}
	return p
}

func TestSplit(t *testing.T) {
	const ours = "github.com/diseq/diseq/"
	byPart, byKind, err := Split(sampled(map[time.Duration][]string{
		// A hash in a shared room is time of the room that asks for it.
		1: {"crypto/internal/fips140/sha256.blockSHANI", ours + "node/chain.Hashed", ours + "node/trie.(*Trie).Append", ours + "node/state.(*Follower).run"},
		2: {"internal/runtime/syscall/linux.Syscall6", "crypto/tls.(*Conn).Write", ours + "node/peer.(*link).send"},
		4: {"runtime.memmove", ours + "node/peer.(*service).Exchange", "google.golang.org/grpc.(*Server).handleStream"},
		8: {"runtime.scanobject", "runtime.gcDrain", "runtime.gcBgMarkWorker"},
		// Allocation comes before the work that it serves.
		16: {"runtime.memclrNoHeapPointers", "runtime.mallocgc", ours + "node/server.(*streamWriter).block", ours + "node/server.(*Server).stream"},
		32: {"modernc.org/sqlite/lib.x", ours + "node/internal/sqlitefile.(*File).Exec", ours + "node/store.(*Store).write"},
		// The adapters of the node say little: the room further out is meant.
		64:  {ours + "node.(*Node).apply", ours + "node/voter.(*Voter).Run"},
		128: {ours + "node.(*Node).apply"},
		256: {"crypto/internal/fips140/aes/gcm.seal", "google.golang.org/grpc/internal/transport.(*loopyWriter).run"},
		512: {"example.org/unheard.Of"},
		// A receiver without a pointer, in a room that nobody listed.
		1024: {ours + "node/unheard.Thing.Do[go.shape.struct { " + ours + "node/other.key [32]uint8 }]"},
		2048: {"runtime.futex", "runtime.findRunnable", "runtime.schedule", "runtime.mcall"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Times{
		"node/trie": 1, "node/peer: sending": 2, "node/peer: receiving": 4, "garbage collector": 8, "node/server: streams": 16, "node/store": 32,
		"node/voter": 64, "node: between the rooms": 128, "gRPC and TLS": 256, Other: 512, "node/unheard": 1024, "scheduler": 2048,
	}, byPart); diff != "" {
		t.Errorf("by part (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Times{
		"SHA-256": 1, "system calls": 2, "copies of memory": 4, "allocation and garbage collection": 8 + 16, "SQLite": 32,
		"DISEQ's own code": 64 + 128 + 1024, "AES-GCM": 256, Other: 512, "scheduling": 2048,
	}, byKind); diff != "" {
		t.Errorf("by kind (-want +got):\n%s", diff)
	}
	if byPart.Sum() != 4095 || byKind.Sum() != 4095 {
		t.Errorf("of 4095 ns the parts have %d, the kinds %d", byPart.Sum(), byKind.Sum())
	}
	if _, _, err := Split(&profile.Profile{SampleType: []*profile.ValueType{{Type: "inuse_space", Unit: "bytes"}}}); err == nil {
		t.Error("a profile of the memory was split")
	}
}

func TestNames(t *testing.T) {
	got := Names(Times{"a": 1, "b": 5}, Times{"a": 6, "c": 1, "d": 1})
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, got); diff != "" {
		t.Error(diff)
	}
}
