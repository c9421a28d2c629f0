package clientcmd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// An Output is the form in which a command prints what it lists or shows: the flag --output.
type Output string

// The forms. JSON and YAML hold the same values; Table is for people.
const (
	Table Output = "table"
	JSON  Output = "json"
	YAML  Output = "yaml"
)

var outputs = []Output{Table, JSON, YAML}

// Register adds the flag to f, the flags of cmd or those of its subcommands as well. usual is the
// form without the flag.
func (o *Output) Register(cmd *cobra.Command, f *pflag.FlagSet, usual Output) {
	*o = usual
	f.VarP(o, "output", "o", "the form of what is printed: table, json or yaml")
	// it fails only for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("output", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		values := make([]cobra.Completion, len(outputs))
		for i, form := range outputs {
			values[i] = string(form)
		}
		return values, cobra.ShellCompDirectiveNoFileComp
	})
}

// String implements pflag.Value.
func (o *Output) String() string { return string(*o) }

// Set implements pflag.Value.
func (o *Output) Set(text string) error {
	if !slices.Contains(outputs, Output(text)) {
		return fmt.Errorf("want table, json or yaml")
	}
	*o = Output(text)
	return nil
}

// Type implements pflag.Value.
func (*Output) Type() string { return "form" }

// Print prints v, which encoding/json can marshal. The table is what table writes; if that is nil,
// it has a line for each value of v, and a table of its own for each list in v.
func (o *Output) Print(w io.Writer, v any, table func(w io.Writer) error) error {
	switch *o {
	case YAML:
		out, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(out)
		return err
	case JSON:
		return PrintJSON(w, v)
	}
	if table != nil {
		return table(w)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	tree, err := readTree(d)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	tree.print(&out)
	_, err = w.Write(out.Bytes())
	return err
}

// PrintNext prints one of several values, for a program that reads them one by one: a line of JSON,
// or a document of YAML. There is no such form for people.
func (o *Output) PrintNext(w io.Writer, v any) error {
	if *o != YAML {
		return json.NewEncoder(w).Encode(v)
	}
	if _, err := io.WriteString(w, "---\n"); err != nil {
		return err
	}
	return o.Print(w, v, nil)
}

// PrintTable prints rows below their headings, in columns. The cells are cleaned by [Plain].
func PrintTable(w io.Writer, headings []string, rows [][]string) error {
	out := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(out, strings.Join(headings, "\t")) // Flush reports errors
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = Plain(cell)
		}
		_, _ = fmt.Fprintln(out, strings.Join(cells, "\t"))
	}
	return out.Flush()
}

// Plain is a text in one line without anything that a terminal obeys: control characters, and those
// that turn the direction of writing, become question marks.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) && r != ' ' {
			return '?'
		}
		return r
	}, text)
}

// A tree is a JSON value that keeps the order of its members. Exactly one of text, members and
// items counts.
type tree struct {
	kind    byte // '{', '[', or 0 for a text
	text    string
	members []member
	items   []tree
}

type member struct {
	name string
	tree
}

func readTree(d *json.Decoder) (tree, error) {
	token, err := d.Token()
	if err != nil {
		return tree{}, err
	}
	switch token {
	case json.Delim('{'):
		t := tree{kind: '{'}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return t, err
			}
			value, err := readTree(d)
			if err != nil {
				return t, err
			}
			t.members = append(t.members, member{fmt.Sprint(name), value})
		}
		_, err = d.Token()
		return t, err
	case json.Delim('['):
		t := tree{kind: '['}
		for d.More() {
			value, err := readTree(d)
			if err != nil {
				return t, err
			}
			t.items = append(t.items, value)
		}
		_, err = d.Token()
		return t, err
	case nil, "":
		return tree{text: none}, nil
	}
	return tree{text: fmt.Sprint(token)}, nil
}

// none stands in a table for no value.
const none = "-"

// longestCell is how much of a value a table shows: a hash whole, and the beginning of a message.
const longestCell = 64

func (t *tree) cell() string {
	switch {
	case t.kind == 0:
		if runes := []rune(t.text); len(runes) > longestCell {
			return string(runes[:longestCell]) + "..."
		}
		return t.text
	case len(t.items) == 0:
		return none
	case t.rows():
		return fmt.Sprintf("%d", len(t.items))
	}
	cells := make([]string, len(t.items))
	for i := range t.items {
		cells[i] = t.items[i].cell()
	}
	return strings.Join(cells, ", ")
}

// rows reports whether a tree is a list of objects or of lists.
func (t *tree) rows() bool {
	return t.kind == '[' && slices.ContainsFunc(t.items, func(item tree) bool { return item.kind != 0 })
}

// flat returns the members of an object and of the objects in it, named by their paths.
func (t *tree) flat(path string) []member {
	if t.kind != '{' || len(t.members) == 0 {
		return []member{{path, *t}}
	}
	var out []member
	for i := range t.members {
		name := t.members[i].name
		if path != "" {
			name = path + "." + name
		}
		out = append(out, t.members[i].flat(name)...)
	}
	return out
}

// print writes a line for each value, then the lists as tables.
func (t *tree) print(out *bytes.Buffer) {
	if t.kind == '[' {
		t.printRows(out)
		return
	}
	values := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	var lists []member
	for _, m := range t.flat("") {
		if m.rows() {
			lists = append(lists, m)
			continue
		}
		_, _ = fmt.Fprintf(values, "%s\t%s\n", Plain(m.name), Plain(m.cell())) // a buffer takes everything
	}
	_ = values.Flush()
	for _, m := range lists {
		if out.Len() > 0 {
			out.WriteByte('\n')
		}
		fmt.Fprintf(out, "%s\n", Plain(m.name))
		m.printRows(out)
	}
}

// printRows writes a list with the members of its objects as columns.
func (t *tree) printRows(out *bytes.Buffer) {
	var columns []string
	rows := make([]map[string]string, len(t.items))
	for i := range t.items {
		rows[i] = map[string]string{}
		for _, m := range t.items[i].flat("") {
			if !slices.Contains(columns, m.name) {
				columns = append(columns, m.name)
			}
			rows[i][m.name] = m.cell()
		}
	}
	headings, cells := make([]string, len(columns)), make([][]string, len(rows))
	for i, column := range columns {
		headings[i] = Plain(strings.ToUpper(column))
	}
	for i, row := range rows {
		for _, column := range columns {
			if row[column] == "" {
				row[column] = none
			}
			cells[i] = append(cells[i], row[column])
		}
	}
	_ = PrintTable(out, headings, cells) // a buffer takes everything
}
