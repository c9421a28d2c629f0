package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the repository.
const root = "../.."

// load reads the imports of the module and of all that it depends on.
func load(t *testing.T) graph {
	t.Helper()
	look(t)
	command := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,TestImports,XTestImports", "./...")
	command.Dir = root
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", command, err, stderr.Bytes())
	}
	g := graph{}
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatal(err)
		}
		g[p.ImportPath] = &p
	}
}

// look looks at every Go file and at go.mod, so that go test runs these tests again, instead of
// printing the cached result, when one of them changes: it does not see what go list reads.
func look(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".go") || entry.Name() == "go.mod") {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsFollowThePlan(t *testing.T) {
	g := load(t)
	for _, v := range violations(g) {
		t.Error(v)
	}
	for _, r := range rooms {
		lives := func(importPath string) bool {
			path, ok := local(importPath)
			in, _ := roomOf(path)
			return ok && in.path == r.path
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(g)), lives) {
			t.Errorf("room %s has no package", r.path)
		}
	}
}

// The plan refuses what it is there to refuse: a package that does nothing but import another is
// added to the real graph, one for each row.
func TestForbiddenImportsAreSeen(t *testing.T) {
	g := load(t)
	before := len(violations(g))
	for _, c := range []struct{ from, to, verdict string }{
		{"node/chain", "node/vrf", "refused"},
		{"node/chain", "node/store", "refused"},
		{"node/chain", "crypto/sha256", "allowed"},
		{"node/consensus", "node/chain", "allowed"},
		{"node/consensus", "node/internal/mutation", "allowed"},
		{"node/consensus", "node/simulation", "refused"},
		{"node/consensus", "node/store", "refused"},
		{"node/consensus", "node/peer", "refused"},
		{"node/consensus", "node/server", "refused"},
		{"node/consensus", "client", "refused"},
		{"node/consensus", "os", "refused"},
		{"node/consensus", "io", "refused"},
		{"node/consensus", "net/http", "refused"},
		{"node/consensus", "log/slog", "refused"},
		{"node/consensus", "math/rand/v2", "refused"},
		{"node/consensus", "sync/atomic", "refused"},
		{"node/consensus", "slices", "allowed"},
		{"node/consensus", "github.com/spf13/cobra", "refused"},
		{"node/vrf", "node/vrf/internal/circuit", "allowed"},
		{"node/vrf", "node/trie", "refused"},
		{"node/vrf", "github.com/consensys/gnark/frontend", "allowed"},
		{"node/identity", "node/vrf", "allowed"},
		{"node/identity", "node/store", "refused"},
		{"node/identity", "node", "refused"},
		{"node/trie", "node/store", "refused"},
		{"node/mempool", "node/store", "refused"},
		{"node/mempool", "node/peer", "refused"},
		{"node/store", "node/trie", "refused"},
		{"node/store", "node/consensus", "refused"},
		{"node/store", "hack/skipped", "refused"},
		{"node/store", "node/internal/sqlitefile", "allowed"},
		{"node/store", "modernc.org/sqlite", "refused"},
		{"node/trie", "node/internal/sqlitefile", "allowed"},
		{"node/internal/sqlitefile", "modernc.org/sqlite", "allowed"},
		{"node/internal/sqlitefile", "node/chain", "refused"},
		{"node", "google.golang.org/grpc", "refused"},
		{"node/peer", "google.golang.org/grpc/status", "allowed"},
		{"node/peer", "node/peer/peerpb", "allowed"},
		{"node/peer", "node/mempool", "refused"},
		{"node/peer", "node", "refused"},
		{"node/server", "node/trie", "allowed"},
		{"node/server", "node/store", "refused"},
		{"node/server", "node/mempool", "refused"},
		{"node/simulation", "node/consensus", "allowed"},
		{"node/simulation", "node/store", "refused"},
		{"node/simulation", "k8s.io/api/core/v1", "refused"},
		{"node/voter", "node/consensus", "allowed"},
		{"node/voter", "node/peer", "refused"},
		{"node/voter", "node/server", "refused"},
		{"node/voter", "node/store", "refused"},
		{"node/voter", "node", "refused"},
		{"node/ledger", "node/store", "refused"},
		{"node/ledger", "node/voter", "refused"},
		{"node/verify", "node/ledger", "refused"},
		{"node/state", "node/mempool", "refused"},
		{"node/catchup", "node/voter", "refused"},
		{"node/gossip", "node/peer", "refused"},
		{"node/consensus", "node/voter", "refused"},
		{"node/consensus", "node/ledger", "refused"},
		{"node/mempool", "node/internal/patient", "refused"},
		{"node/internal/mutation", "node/chain", "refused"},
		{"node/internal/mutation", "github.com/spf13/cobra", "refused"},
		{"node/voter", "node/consensus", "allowed"},
		{"node/voter", "node/mempool", "allowed"},
		{"node/voter", "node/store", "refused"},
		{"node/voter", "node/peer", "refused"},
		{"node/voter", "node/server", "refused"},
		{"node/voter", "node/state", "refused"},
		{"node/voter", "node/catchup", "refused"},
		{"node/voter", "node", "refused"},
		{"node/ledger", "node/vrf", "allowed"},
		{"node/ledger", "node/store", "refused"},
		{"node/ledger", "node/voter", "refused"},
		{"node/state", "node/voter", "refused"},
		{"node/catchup", "node/peer", "refused"},
		{"node/catchup", "node/voter", "refused"},
		{"node/gossip", "node/peer", "refused"},
		{"node/verify", "node/ledger", "refused"},
		{"node", "node/voter", "allowed"},
		{"node", "node/consensus", "allowed"},
		{"node", "node/server", "allowed"},
		{"node", "node/voter", "allowed"},
		{"node", "controllers", "refused"},
		{"node", "cmd/diseq", "refused"},
		{"node", "api/v1alpha1", "refused"},
		{"node", "k8s.io/client-go/kubernetes", "refused"},
		{"node", "sigs.k8s.io/controller-runtime", "refused"},
		{"node", "sigs.k8s.io/yaml", "allowed"},
		{"client", "node/trie", "allowed"},
		{"client", "node", "refused"},
		{"client", "node/server", "refused"},
		{"client", "k8s.io/api/core/v1", "refused"},
		{"cmd/diseq", "node", "allowed"},
		{"cmd/diseq", "controllers", "refused"},
		{"api", "k8s.io/api/core/v1", "allowed"},
		{"api", "node/chain", "refused"},
		{"controllers", "k8s.io/api/core/v1", "allowed"},
		{"controllers", "node/identity", "allowed"},
		{"controllers", "node/vrf", "refused"},
		{"controllers", "node/peer", "refused"},
		{"controllers", "node", "refused"},
		{"controllers", "client", "refused"},
		{"controllers", "cmd/operator", "refused"},
		{"controllers/resources", "node", "refused"},
		{"controllers/resources", "controllers", "refused"},
		{"controllers/status", "node/server", "refused"},
		{"controllers/nodeclient", "node/chain", "allowed"},
		{"controllers/nodeclient", "client", "refused"},
		{"controllers/nodeclient", "node/server", "refused"},
		{"cmd/operator", "node", "refused"},
		{"test/system", "node", "allowed"},
		{"nowhere", "node", "refused"},
	} {
		from, to := module+"/"+c.from+"/arrow", c.to
		if _, ok := g[to]; !ok && g[module+"/"+to] != nil {
			to = module + "/" + to
		}
		if g[to] == nil {
			t.Errorf("%s: no package %s", c.from, to)
			continue
		}
		with := maps.Clone(g)
		with[from] = &pkg{ImportPath: from, Imports: []string{to}}
		if refused := len(violations(with)) > before; refused != (c.verdict == "refused") {
			t.Errorf("%s -> %s: refused: %v, want %s", c.from, c.to, refused, c.verdict)
		}
	}
}

// A ban holds through others, and a test may import what its room's code may not.
func TestBansHoldThroughOthersAndTestsMayImportMore(t *testing.T) {
	g := graph{
		module + "/node/mempool": {Imports: []string{"example.org/logs"}},
		"example.org/logs":       {Imports: []string{"k8s.io/klog"}},
		module + "/node/store":   {TestImports: []string{module + "/hack/skipped"}},
		module + "/node/vrf":     {XTestImports: []string{module + "/hack/skipped"}},
		"os":                     {Standard: true},
		module + "/node/consensus": {Imports: []string{module + "/node/chain"},
			TestImports: []string{"os", "example.org/logs"}},
	}
	for path, p := range g {
		p.ImportPath = path
	}
	want := []string{
		"node/mempool never depends on Kubernetes, and does: node/mempool -> example.org/logs -> k8s.io/klog",
		"node/vrf imports hack/skipped: node/vrf may import nothing of this module",
	}
	if got := violations(g); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// clockFunctions are what consensus does not call of package time: the time comes with an event.
var clockFunctions = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// clocks finds the uses of a clock in a file.
func clocks(name string, source any) (found []string, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if of, ok := s.X.(*ast.Ident); ok && of.Name == "time" && slices.Contains(clockFunctions, s.Sel.Name) {
			found = append(found, fmt.Sprintf("%s: time.%s: the time comes with an event", files.Position(s.Pos()), s.Sel.Name))
		}
		return true
	})
	return found, nil
}

// The root package of a node is assembly and adapters only: a rule belongs into a room of its own.
func TestTheRootOfANodeStaysSmall(t *testing.T) {
	const most = 1650 // a fifth of it is the configuration
	files, err := filepath.Glob("../../node/*.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines += bytes.Count(source, []byte("\n"))
	}
	if lines == 0 || lines > most {
		t.Errorf("the root package node has %d lines without its tests, want 1 to %d", lines, most)
	}
}

func TestConsensusHasNoClock(t *testing.T) {
	names, err := filepath.Glob(root + "/node/consensus/*.go")
	if err != nil || len(names) == 0 {
		t.Fatalf("no files of consensus: %v", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		found, err := clocks(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			t.Error(f)
		}
	}
	found, err := clocks("a.go", "package a\nimport \"time\"\nvar now, second = time.Now, time.Second\n")
	if err != nil || len(found) != 1 {
		t.Errorf("a clock and a unit give %v, %v: want one finding", found, err)
	}
}
