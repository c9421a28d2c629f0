package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// aModule writes a module with three targets: one that holds, one that an input breaks, and one
// whose own seed does.
func aModule(t *testing.T) *module {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"go.mod":            "module example.com/fuzzed\n\ngo 1.26\n",
		"inner/go.mod":      "module example.com/another\n",
		"inner/x_test.go":   "package inner\n\nfunc FuzzElsewhere(f *testing.F) {}\n",
		"a/testdata/x.go":   "package x\n\nfunc FuzzNone(f *testing.F) {}\n",
		"a/a_test.go":       "package a\n\nimport \"testing\"\n\nconst text = `\nfunc FuzzNot(f *testing.F) {}\n`\n" + holds,
		"a/a.go":            "package a\n\n" + reached,
		"a/b/b_test.go":     "package b\n\nimport \"testing\"\n" + breaks,
		"a/b/b_test.go.bak": "func FuzzBackup(f *testing.F) {}",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &module{root: root, time: "2000x", patience: "1m", binaries: t.TempDir(), cache: t.TempDir(), progress: func(string) {}}
}

const holds = `
func FuzzHolds(f *testing.F) {
	f.Add([]byte("ab"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if !reach(b) {
			t.Log("here")
		}
	})
}
`

const reached = `func reach(b []byte) bool {
	if len(b) > 2 && b[0] == 'x' {
		return false
	}
	return true
}
`

const breaks = `
func FuzzBreaks(f *testing.F) {
	f.Add(uint8(3))
	f.Fuzz(func(t *testing.T, n uint8) {
		if n > 5 {
			t.Fatalf("%d is too much", n)
		}
	})
}

func FuzzSeed(f *testing.F) {
	f.Add(true)
	f.Fuzz(func(t *testing.T, b bool) {
		if b {
			t.Fatal("true is not liked")
		}
	})
}
`

func TestTheModulesOwnTargetsAreFound(t *testing.T) {
	m := aModule(t)
	found, err := discover(m.root, "")
	if want := []target{{"a", "FuzzHolds"}, {"a/b", "FuzzBreaks"}, {"a/b", "FuzzSeed"}}; err != nil || !slices.Equal(found, want) {
		t.Errorf("found %v, %v; want %v", found, err, want)
	}
	found, err = discover(m.root, "b.FuzzB")
	if want := []target{{"a/b", "FuzzBreaks"}}; err != nil || !slices.Equal(found, want) {
		t.Errorf("found %v, %v; want %v", found, err, want)
	}
}

func TestAFailingTargetIsReportedAndTheOthersRun(t *testing.T) {
	m := aModule(t)
	targets, err := discover(m.root, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.compile(t.Context(), targets, "-fuzz=."); err != nil {
		t.Fatal(err)
	}
	var lines []string
	m.progress = func(line string) { lines = append(lines, line) }
	var out bytes.Buffer
	err = report(&out, m.fuzzAll(t.Context(), targets, 1), len(targets))
	if err == nil || err.Error() != "2 of 3 targets failed" {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{
		`(?m)^a\.FuzzHolds +\S+s +[0-9]{4,} +[0-9]+ +[0-9]+ +[0-9]+ +ok$`,
		`(?m)^a/b\.FuzzBreaks .* FAILED$`, `(?m)^a/b\.FuzzSeed .* FAILED$`,
		`(?m)^failing input: a/b/testdata/fuzz/FuzzBreaks/[0-9a-f]+$`,
		`(?m)^run it alone:  go test -run=FuzzBreaks/[0-9a-f]+ \./a/b$`,
		`(?m)^run it alone:  go test -run=FuzzSeed/seed#0 \./a/b$`,
		`is too much`, `true is not liked`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("%s is not in the report:\n%s", want, &out)
		}
	}
	ended := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.HasSuffix(l, "\n") })
	if len(ended) != 3 || len(lines) < 7 {
		t.Errorf("shown are %q", lines)
	}
	failing := regexp.MustCompile(`(?m)^failing input: (a/b/testdata\S+)$`).FindStringSubmatch(out.String())
	if failing == nil {
		t.Fatal("no path")
	}
	if _, err := os.Stat(filepath.Join(m.root, failing[1])); err != nil {
		t.Error(err)
	}
}

const slow = `package a

import (
	"testing"
	"time"
)

func FuzzSlow(f *testing.F) {
	f.Add(true)
	f.Fuzz(func(*testing.T, bool) { time.Sleep(time.Minute) })
}
`

// A target whose time is over before an input has run says nothing about the code.
func TestATargetThatRanNothingFails(t *testing.T) {
	m := aModule(t)
	m.time, m.patience = "1s", "2s"
	if err := os.WriteFile(filepath.Join(m.root, "a", "a_test.go"), []byte(slow), 0o600); err != nil {
		t.Fatal(err)
	}
	of := target{"a", "FuzzSlow"}
	if err := m.compile(t.Context(), []target{of}, "-fuzz=."); err != nil {
		t.Fatal(err)
	}
	r := m.fuzz(t.Context(), of, newBoard(m.progress, 1))
	if r.err == nil || r.err.Error() != "ran no input in 2s: of the corpus 0/1" {
		t.Errorf("error %v", r.err)
	}
}

// go test runs an input every time only if it is committed.
//
// Promise 37.
func TestEveryTargetOfTheRepositoryHasACorpus(t *testing.T) {
	m := &module{root: filepath.Join("..", "..")}
	targets, err := discover(m.root, "")
	if err != nil || len(targets) == 0 {
		t.Fatalf("found %d targets: %v", len(targets), err)
	}
	for _, of := range targets {
		if inputs, err := os.ReadDir(m.corpus(of)); err != nil || len(inputs) == 0 {
			t.Errorf("%s has a corpus of %d inputs, %v: go run ./hack/fuzz -time 10s -only %[1]s, then with -corpus", of, len(inputs), err)
		}
	}
}

// Of inputs that reach the same the smallest stays; one that is named by hand stays whatever it
// reaches, one that is not taken or skipped goes.
func TestTheCorpusIsASmallSelectionWithTheSameCoverage(t *testing.T) {
	m := aModule(t)
	of := target{"a", "FuzzHolds"}
	dir := m.corpus(of)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, bytes := range map[string]string{
		"1111": `[]byte("longer, and the same")`, "2222": `[]byte("yes")`, "3333": `[]byte("xyz")`, "4444": `[]byte("xyz and more")`,
		"shows-something": `[]byte("yes, and kept")`, "5555": `uint8(3)`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("go test fuzz v1\n"+bytes+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.selectAll(t.Context(), []target{of}); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"3333", "shows-something"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}
