package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A promise of docs/concepts.md is a paragraph that begins with its number in bold.
type promise struct {
	number int
	words  string // its first sentence
}

// A mark is a line `// Promise 18.` of a test's comment: the test holds that promise. A part of the
// test alone is named behind a colon: `// Promise 3: voter.txt.`
type mark struct {
	number int
	test   string // such as node/chain.TestVectors
	part   string
}

var (
	promiseParagraph = regexp.MustCompile(`(?s)(?:^|\n)\*\*(\d+)\. (.*?)\*\*`)
	markLine         = regexp.MustCompile(`^// Promise (\d+)(?:: (.+))?\.$`)
	// meantAsMark is a line that says to be a mark, whether it is in order or not.
	meantAsMark = regexp.MustCompile(`^//\s*Promises? \d`)
	testName    = regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)`)
)

func promises(document string) (all []promise) {
	for _, m := range promiseParagraph.FindAllStringSubmatch(document, -1) {
		number, _ := strconv.Atoi(m[1])
		words := strings.TrimRight(strings.Join(strings.Fields(m[2]), " "), ".,:")
		all = append(all, promise{number, words})
	}
	return all
}

// marks reads the marks of a test file, and what is wrong with them.
func marks(file string, source any) (all []mark, wrong []string, err error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	tests := map[*ast.CommentGroup]string{}
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Doc != nil && f.Recv == nil && testName.MatchString(f.Name.Name) {
			tests[f.Doc] = path.Dir(file) + "." + f.Name.Name
		}
	}
	for _, group := range parsed.Comments {
		for _, c := range group.List {
			if !meantAsMark.MatchString(c.Text) {
				continue
			}
			m := markLine.FindStringSubmatch(c.Text)
			test := tests[group]
			if m == nil || test == "" {
				wrong = append(wrong, fmt.Sprintf("%s:%d: %q is not a mark above a test", file, files.Position(c.Pos()).Line, c.Text))
				continue
			}
			number, err := strconv.Atoi(m[1])
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", c.Text, err)
			}
			all = append(all, mark{number, test, m[2]})
		}
	}
	return all, wrong, nil
}

// allMarks reads the marks of all tests of a tree.
func allMarks(tree fs.FS) (all []mark, wrong []string, err error) {
	err = fs.WalkDir(tree, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if file != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		source, err := fs.ReadFile(tree, file)
		if err != nil {
			return err
		}
		m, w, err := marks(file, source)
		all, wrong = append(all, m...), append(wrong, w...)
		return err
	})
	return all, wrong, err
}

// unheld compares promises and marks: a promise needs a test, a mark a promise, and the numbers
// have no gap.
func unheld(all []promise, held []mark) (wrong []string) {
	for i, p := range all {
		if p.number != i+1 {
			wrong = append(wrong, fmt.Sprintf("promise %d follows %d promises", p.number, i))
		}
		if !slices.ContainsFunc(held, func(m mark) bool { return m.number == p.number }) {
			wrong = append(wrong, fmt.Sprintf("promise %d has no test: %s", p.number, p.words))
		}
	}
	for _, m := range held {
		if !slices.ContainsFunc(all, func(p promise) bool { return p.number == m.number }) {
			wrong = append(wrong, fmt.Sprintf("%s holds promise %d, which does not exist", m.test, m.number))
		}
	}
	return wrong
}

// promisesTable lists the tests of each promise, in the order of their names.
func promisesTable(all []promise, held []mark) string {
	var b strings.Builder
	b.WriteString("| promise | tests |\n|---|---|\n")
	for _, p := range all {
		var tests []string
		for _, m := range held {
			if m.number == p.number {
				test := "`" + m.test + "`"
				if m.part != "" {
					test += " (" + m.part + ")"
				}
				tests = append(tests, test)
			}
		}
		slices.Sort(tests)
		fmt.Fprintf(&b, "| **%d.** %s | %s |\n", p.number, p.words, strings.Join(tests, ", "))
	}
	return b.String()
}
