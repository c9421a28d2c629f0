// Command bench writes what the benchmarks measured into docs/performance.md. `make bench-tables`
// runs it.
//
// In the document, a line <!-- measured: NAME --> begins the place of a table and a line
// <!-- end --> ends it. The place of a table that nobody has measured since stays as it is.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/diseq/diseq/hack/bench/record"
)

func main() {
	from := flag.String("from", "bin/bench", "the directory of the records")
	document := flag.String("document", "docs/performance.md", "the document to write into")
	flag.Parse()
	if err := run(*from, *document); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(from, document string) error {
	b, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	text, filled, left, err := fill(string(b), func(name string) (string, error) { return content(from, name) })
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	fmt.Printf("%s: written: %s\n", document, list(filled))
	fmt.Printf("%s: left, nothing in %s: %s\n", document, from, list(left))
	if text == string(b) {
		return nil
	}
	return os.WriteFile(document, []byte(text), 0o644)
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// goals is the name of the table of all goals.
const goals = "goals"

// content returns what is measured under a name, "" if nothing is.
func content(from, name string) (string, error) {
	if name == goals {
		return record.GoalsTable(from)
	}
	t, err := record.Read(from, name)
	if t == nil || err != nil {
		return "", err
	}
	return t.Markdown(), nil
}

const (
	begin  = "<!-- measured: "
	closes = " -->"
	end    = "<!-- end -->"
)

// fill puts contents into their places in a text. It returns the names that it filled, and those
// that have no content and stay.
func fill(text string, content func(name string) (string, error)) (out string, filled, left []string, err error) {
	var b strings.Builder
	var open string         // the name of the place that the line is in
	var old strings.Builder // the lines of that place so far
	for line := range strings.Lines(text) {
		name, begins := strings.CutPrefix(strings.TrimRight(line, "\n"), begin)
		switch {
		case begins && open != "":
			return "", nil, nil, fmt.Errorf("the place of %s is not ended by %s", open, end)
		case begins:
			if name, begins = strings.CutSuffix(name, closes); !begins || name == "" {
				return "", nil, nil, fmt.Errorf("%q names no table", line)
			}
			if slices.Contains(filled, name) || slices.Contains(left, name) {
				return "", nil, nil, fmt.Errorf("%s has two places", name)
			}
			open = name
			old.Reset()
			b.WriteString(line)
		case open != "" && strings.TrimRight(line, "\n") == end:
			now, err := content(open)
			if err != nil {
				return "", nil, nil, err
			}
			if now == "" {
				left = append(left, open)
				b.WriteString(old.String())
			} else {
				filled = append(filled, open)
				b.WriteString("\n" + now + "\n")
			}
			b.WriteString(line)
			open = ""
		case open != "":
			old.WriteString(line)
		default:
			b.WriteString(line)
		}
	}
	if open != "" {
		return "", nil, nil, fmt.Errorf("the place of %s is not ended by %s", open, end)
	}
	return b.String(), filled, left, nil
}
