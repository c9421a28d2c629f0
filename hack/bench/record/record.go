// Package record keeps what a benchmark measured, as tables, until they are written into
// docs/performance.md. Each table says when, where, of which commit and by which command it was
// measured, so that no figure stands in the document without its origin.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// Origin is where figures come from.
type Origin struct {
	// Command prints them again, from the root of the repository.
	Command string    `json:"command"`
	When    time.Time `json:"when"`
	// Machine is the processors and the memory, Commit the state of the repository, with "-dirty"
	// if it differs from a commit. Busy is the share of the processors that other programs took
	// meanwhile, from 0 to 1, or -1 if it is not known.
	Machine string  `json:"machine"`
	Commit  string  `json:"commit"`
	Busy    float64 `json:"busy"`
}

// String is the origin as the document shows it below a table.
func (o Origin) String() string {
	s := fmt.Sprintf("`%s`,\n%s, commit %s, %s", o.Command, o.When.UTC().Format(time.DateOnly), o.Commit, o.Machine)
	if o.Busy >= 0 {
		s += fmt.Sprintf("; other programs took %.0f %% of the processors", 100*o.Busy)
	}
	return s
}

// Table is one table of figures. Its rows have a cell for each column.
type Table struct {
	Name    string     `json:"name"`
	Origin  Origin     `json:"origin"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Add adds a row. Numbers are written with three significant digits or as whole numbers.
func (t *Table) Add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		switch c := c.(type) {
		case float64:
			row[i] = Number(c)
		default:
			row[i] = fmt.Sprint(c)
		}
	}
	t.Rows = append(t.Rows, row)
}

// Number writes a figure as precisely as it is measured: three digits below a thousand.
func Number(f float64) string {
	switch {
	case f >= 99.95 || f <= -99.95:
		s := fmt.Sprintf("%.0f", f)
		for at := len(s) - 3; at > 0 && s[at-1] != '-'; at -= 3 {
			s = s[:at] + "," + s[at:]
		}
		return s
	case f >= 9.995 || f <= -9.995:
		return fmt.Sprintf("%.1f", f)
	case f == 0:
		return "0"
	default:
		return fmt.Sprintf("%.2f", f)
	}
}

// Print writes the table for a terminal.
func (t *Table) Print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, strings.Join(t.Columns, "\t"))
	for _, row := range t.Rows {
		fmt.Fprintln(out, strings.Join(row, "\t"))
	}
	return out.Flush()
}

// Markdown is the table for a document, with its origin.
func (t *Table) Markdown() string {
	var b strings.Builder
	writeRow(&b, t.Columns)
	b.WriteString("|" + strings.Repeat("---|", len(t.Columns)) + "\n")
	for _, row := range t.Rows {
		writeRow(&b, row)
	}
	fmt.Fprintf(&b, "\n%s.\n", t.Origin)
	return b.String()
}

func writeRow(b *strings.Builder, cells []string) {
	for _, c := range cells {
		b.WriteString("| " + strings.ReplaceAll(c, "|", `\|`) + " ")
	}
	b.WriteString("|\n")
}

// Write keeps the table as NAME.json in dir, in the place of an earlier one.
func (t *Table) Write(dir string) error { return write(dir, t.Name, t) }

func write(dir, name string, v any) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".json"), append(b, '\n'), 0o644)
}

// Read returns the table of that name in dir, nil if it was not measured.
func Read(dir, name string) (*Table, error) { return read[Table](dir, name) }

func read[T any](dir, name string) (*T, error) {
	path := filepath.Join(dir, name+".json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("%s does not hold the record of a benchmark: %w", path, err)
	}
	return v, nil
}
