package house

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated parts of the documents")

func TestEveryPromiseHasATest(t *testing.T) {
	all, held := readPromises(t)
	if len(all) == 0 {
		t.Fatal("docs/concepts.md promises nothing")
	}
	for _, w := range unheld(all, held) {
		t.Error(w)
	}
}

func readPromises(t *testing.T) ([]promise, []mark) {
	t.Helper()
	document, err := os.ReadFile(root + "/docs/concepts.md")
	if err != nil {
		t.Fatal(err)
	}
	held, wrong, err := allMarks(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	return promises(string(document)), held
}

func TestAPromiseWithoutATestAndAMarkWithoutAPromiseAreSeen(t *testing.T) {
	all := promises("**1. One,** and more.\n\n**2. Two\nis held.** More **3. than**\n\n**4. Four.**\n")
	if want := []promise{{1, "One"}, {2, "Two is held"}, {4, "Four"}}; !slices.Equal(all, want) {
		t.Fatalf("promises are %v, want %v", all, want)
	}
	held, wrong, err := marks("a/b/c_test.go", `package b

// It does.
//
// Promise 1.
// Promise 5: a part.
func TestOne(t *testing.T) {}

// Promise 4
func TestFour(t *testing.T) {}

// Promise 2.
func two() {}
`)
	if err != nil {
		t.Fatal(err)
	}
	if want := []mark{{1, "a/b.TestOne", ""}, {5, "a/b.TestOne", "a part"}}; !slices.Equal(held, want) {
		t.Errorf("marks are %v, want %v", held, want)
	}
	if want := []string{
		`a/b/c_test.go:9: "// Promise 4" is not a mark above a test`,
		`a/b/c_test.go:12: "// Promise 2." is not a mark above a test`,
	}; !slices.Equal(wrong, want) {
		t.Errorf("wrong are %q, want %q", wrong, want)
	}
	if got, want := unheld(all, held), []string{
		"promise 2 has no test: Two is held",
		"promise 4 follows 2 promises",
		"promise 4 has no test: Four",
		"a/b.TestOne holds promise 5, which does not exist",
	}; !slices.Equal(got, want) {
		t.Errorf("unheld are %q, want %q", got, want)
	}
}

// Parts of the documents are made from the code; -update writes them.
func TestDocumentsShowWhatTheCodeSays(t *testing.T) {
	all, held := readPromises(t)
	transcript, err := os.ReadFile(root + "/node/consensus/testdata/network/one-height.txt")
	if err != nil {
		t.Fatal(err)
	}
	ofNodes, ofOperator := readMetrics(t)
	for _, c := range []struct{ file, name, part string }{
		{"docs/architecture.md", "rooms", roomsTable()},
		{"docs/architecture.md", "transcript", "```\n" + string(transcript) + "```\n"},
		{"docs/metrics.md", "node metrics", metricsTable(ofNodes)},
		{"docs/metrics.md", "operator metrics", metricsTable(ofOperator)},
		{"docs/metrics.md", "node alerts", alertsTable(readRules(t, "nodes.yaml"), readSections(t))},
		{"docs/metrics.md", "operator alerts", alertsTable(readRules(t, "operator.yaml"), readSections(t))},
		{"docs/promises.md", "promises", promisesTable(all, held)},
	} {
		document, err := os.ReadFile(root + "/" + c.file)
		if err != nil {
			t.Error(err)
			continue
		}
		want, err := replaced(string(document), c.name, c.part)
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.file, err)
		case want == string(document):
		case *update:
			if err := os.WriteFile(root+"/"+c.file, []byte(want), 0o644); err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("%s does not show the %s of the code: go test ./test/house -update writes them", c.file, c.name)
		}
	}
}

// replaced puts a part of a document between the markers of its name.
func replaced(document, name, part string) (string, error) {
	begin, end := "<!-- "+name+": go test ./test/house -update writes this part -->\n", "<!-- end of "+name+" -->"
	before, rest, ok := strings.Cut(document, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("no place for it: want %q and %q", begin, end)
	}
	return before + begin + "\n" + part + "\n" + end + after, nil
}

func TestAPartThatDiffersIsSeen(t *testing.T) {
	old := "a\n<!-- x: go test ./test/house -update writes this part -->\n\n| old |\n\n<!-- end of x -->\nb\n"
	for part, same := range map[string]bool{"| old |\n": true, "| new |\n": false} {
		if got, err := replaced(old, "x", part); err != nil || (got == old) != same {
			t.Errorf("%q: %q, %v; the same: want %v", part, got, err, same)
		}
	}
	if _, err := replaced("a\n", "x", "| new |\n"); err == nil {
		t.Error("a document without markers takes a part")
	}
}
