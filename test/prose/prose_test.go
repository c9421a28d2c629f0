package prose

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var only = flag.String("only", "", "check only the files whose paths begin with one of these, separated by commas")

// root is the repository.
const root = "../.."

// skipped are the names of directories that hold nothing written by hand.
var skipped = map[string]bool{
	".git": true, ".devnet": true, "bin": true, "node_modules": true, "testdata": true,
}

// Findings are printed as file:line: rule: sentence, and counted for each directory.
func TestTheRepositoryIsInPlainWords(t *testing.T) {
	found, files, err := checkTree(root, strings.Split(*only, ","))
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Fatalf("no file begins with %s", *only)
	}
	counts := map[string]int{}
	for _, f := range found {
		fmt.Println(f)
		counts[filepath.Dir(f.file)]++
	}
	for _, dir := range slices.Sorted(maps.Keys(counts)) {
		fmt.Printf("%5d %s\n", counts[dir], dir)
	}
	fmt.Printf("%5d findings in %d files\n", len(found), files)
	if len(found) > 0 {
		t.Fail()
	}
}

// checkTree checks the files under a directory whose paths from it begin with one of the prefixes.
func checkTree(dir string, prefixes []string) (found []finding, files int, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if skipped[entry.Name()] {
				return filepath.SkipDir
			}
			return nil
		}
		file, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		file = filepath.ToSlash(file)
		if !entry.Type().IsRegular() || !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(file, p) }) {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		inFile, err := checkFile(file, string(source))
		found = append(found, inFile...)
		return err
	})
	return found, files, err
}

func checkFile(file, source string) ([]finding, error) {
	texts, found, err := read(file, source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, t := range texts {
		found = append(found, check(t)...)
	}
	slices.SortStableFunc(found, func(a, b finding) int { return cmp.Compare(a.line, b.line) })
	return found, nil
}

var (
	long  = strings.Repeat("word ", maxWords) + "word"
	short = strings.Repeat("word ", maxWords-1) + "word"
)

// Each rule has rows that break it and rows that nearly do.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		kind kind
		text string
		want string // how the rules begin, in the order of the findings
	}{
		{shown, long, "31 words"},
		{shown, short, ""},
		{shown, "Short. " + long + ". Short.", "31 words"},
		{shown, short + ". " + short + ".", ""},
		{shown, short + " = | - 'n'", "31 words"},
		{shown, short + " = | - →", ""},
		{comment, long, ""},
		{heading, long, ""},
		{shown, "Nodes vote, e.g. " + short, "33 words"},
		{shown, "Nodes vote (i.e. sign). " + short, ""},
		{shown, "Written for v1.2.3 of node.go alone. " + short, ""},

		{shown, "Who is late abstains.", `begins with "who"`},
		{comment, "who is late abstains", `begins with "who"`},
		{comment, "It votes. What is late waits.", `begins with "what"`},
		{comment, "“Whoever” votes.", `begins with "whoever"`},
		{comment, "12. Whatever votes.", `begins with "whatever"`},
		{comment, "What's late waits.", `begins with "what"`},
		{shown, "Who is late?", ""},
		{heading, "What is promised", ""},
		{shown, "Whole nodes vote.", ""},
		{shown, "It says who is late.", ""},
		{shown, "Versions 1.2. what", `begins with "what"`},

		{shown, "The message is had again.", `contains "is had"|contains "had again"`},
		{comment, "A status not had.", `contains "not had"`},
		{comment, "Those are had.", `contains "are had"`},
		{comment, "It has had an answer.", ""},
		{comment, "The node it was told of.", `contains "told of"`},
		{comment, "Toldof", ""},
		{comment, "It is told.", `contains "is told"`},
		{comment, "This goes before that.", `contains "goes before"`},
		{comment, "It is made, by the way.", `contains "by the way"`},
		{comment, "That is no permutation.", `contains "is no permutation"`},
		{comment, "There is no permutation.", ""},
		{comment, "It is no longer a leader.", ""},
		{comment, "That is not a permutation.", ""},
		{comment, "None may be lost, ever.", `contains "may be lost, ever"`},
		{comment, "Validators of whom none votes.", `contains "whom"`},
	} {
		var got []string
		for _, f := range check(text{kind: c.kind, lines: []line{{1, c.text}}}) {
			got = append(got, f.rule)
		}
		want := []string{}
		if c.want != "" {
			want = strings.Split(c.want, "|")
		}
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%s\nbreaks %q, want %q", c.text, got, want)
		}
	}
}

// Texts are found where they are, and nothing else is taken for one: in each file below the lines
// that begin a bad sentence say so.
func TestTextsAreFound(t *testing.T) {
	for file, source := range map[string]string{
		"a.md": `# What is promised

Who votes: BAD
and waits. It
says so. What is
late waits, BAD-1
and that ` + "`what. Who` [is](what.md#who)" + ` said.

- An item. Who BAD
- [Who waits](#who-waits)
- Who else? One
  who waits.

| what | who |
|---|---|
| it | who BAD |
| [who is it](#who) | it |
| ` + "`a|b. who`" + ` | it |

` + "```" + `
who is code
` + "```" + `

    who is code

<!-- who is hidden -->
`,
		"a.go": `// Package a is one. Who BAD
package a

//go:noinline who is late and more

// Things:
//
//	who is code
//
//   - who BAD
//   - it. Not
//     who.
const text = "" +
	"who votes is " + // BAD
	"an error"

type t struct {
	f int "who is a tag of this" // Who BAD
}

var s = f("what %s of this", // BAD
	"who", "what is", "SELECT who FROM a WHERE b", ` + "`CREATE TABLE who is this`" + `)

var raw = ` + "`Good line.\nWho is BAD here now.`" + `

// ` + strings.Repeat("wide ", 20) + `BAD
// https://example.org/` + strings.Repeat("wide", 25) + `
`,
		"a_test.go": "package a\n\nvar s = \"who is in a test\" // who BAD\n",
		"test/a.go": "package a\n\nvar s = \"who is in a test\"\n",
		"gen.go":    "// Code generated by a tool. DO NOT EDIT.\n\n// who is generated\npackage a\n",
		"api/a.go":  "// " + long + ". BAD-0\npackage a\n",
		"openapi.yaml": `info:
  description: |
    First.
    Who BAD
  summary: who BAD
  x: {description: who BAD, enum: [who is]}
  title: who
`,
		"values.yaml": "# " + long + ". BAD\na: who # trailing\n",
		"a.yaml":      "# " + long + ".\n# Who BAD\na: 1\n",
		"a.sh":        "#!/bin/sh\n# Who BAD\necho \"who is late $(x) here\" # BAD\nx='who is late not printed'\n",
		"Makefile":    "# Who BAD\nall: x ## Who BAD\n\tthing\n",
		"a.proto":     "// Who BAD\nmessage A {}\n",
		"NOTES.txt":   "{{ if .Values.who }}\nWho BAD\n",
	} {
		found, err := checkFile(file, source)
		if err != nil {
			t.Fatal(err)
		}
		want := map[int]bool{}
		for i, s := range strings.Split(source, "\n") {
			if strings.Contains(s, "BAD-1") {
				want[i] = true
			} else if strings.Contains(s, "BAD") {
				want[i+1] = true
			}
		}
		got := map[int]bool{}
		for _, f := range found {
			got[f.line] = true
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: findings in lines %v, want %v:\n%v", file, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)), found)
		}
	}
}
