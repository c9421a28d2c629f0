package clientcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// sample has a value of each kind that commands print.
var sample = struct {
	Name   string            `json:"name"`
	Height uint64            `json:"height"`
	Absent *int              `json:"absent"`
	Votes  []string          `json:"votes"`
	None   []string          `json:"none"`
	Pool   map[string]any    `json:"pool"`
	Data   string            `json:"data"`
	Peers  []map[string]any  `json:"peers"`
	Long   []json.RawMessage `json:"matrix"`
}{
	Name: "v0", Height: 1<<63 + 1, Votes: []string{"v1", "v2"}, None: []string{}, Pool: map[string]any{"bytes": 7, "max": 9},
	Data: strings.Repeat("x", 70),
	Peers: []map[string]any{
		{"name": "v1", "ready": true, "link": map[string]any{"height": 12}},
		{"name": "evil\x1b[2J\ttab\u202e", "extra": []any{map[string]any{"a": 1}, map[string]any{"a": 2}}},
	},
	Long: []json.RawMessage{json.RawMessage(`[1,2]`)},
}

func printed(t *testing.T, form Output, v any) string {
	t.Helper()
	var out bytes.Buffer
	if err := form.Print(&out, v, nil); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestATableShowsEachValueAndEachList(t *testing.T) {
	want := `name         v0
height       9223372036854775809
absent       -
votes        v1, v2
none         -
pool.bytes   7
pool.max     9
data         ` + strings.Repeat("x", 64) + `...

peers
LINK.HEIGHT   NAME                READY   EXTRA
12            v1                  true    -
-             evil?[2J?tab?       -       2

matrix

1, 2
`
	got := printed(t, Table, sample)
	if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
	if rows := strings.Split(got, "\n"); !strings.HasPrefix(rows[1], "height       9") {
		t.Errorf("the values are in no column:\n%s", got)
	}
	if got := printed(t, Table, []map[string]int{{"a": 1}, {"a": 22}}); got != "A\n1\n22\n" {
		t.Errorf("a list is %q", got)
	}
}

func TestYAMLAndJSONHoldTheSame(t *testing.T) {
	asJSON, err := yaml.YAMLToJSON([]byte(printed(t, YAML, sample)))
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	for text, v := range map[string]*any{printed(t, JSON, sample): &a, string(asJSON): &b} {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(v); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("JSON has\n%v\nYAML has\n%v", a, b)
	}
}

func TestValuesInARowAreLinesOrDocuments(t *testing.T) {
	for form, want := range map[Output]string{JSON: "{\"a\":1}\n{\"a\":1}\n", YAML: "---\na: 1\n---\na: 1\n"} {
		var out bytes.Buffer
		for range 2 {
			if err := form.PrintNext(&out, map[string]int{"a": 1}); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != want {
			t.Errorf("%s: %q, want %q", form, out.String(), want)
		}
	}
}

func TestNothingThatATerminalObeysIsPrinted(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, ü, 日本": "plain text, ü, 日本", "\x1b]0;title\x07": "?]0;title?", "a\r\nb": "a??b", "\u009b2J": "?2J",
		"bad \xff": "bad ?", "\u202eright": "?right", "\u200bnone": "?none", "\x7f": "?",
	} {
		if got := Plain(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := OneLine(errors.New("the node answered 500: \x1b[2J\x1b[1;1Hall is well\tnow")); strings.ContainsAny(got, "\x1b\t") {
		t.Errorf("an error keeps %q", got)
	}
}

// command runs a command that prints v in the form of its flag.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var form Output
	root := &cobra.Command{Use: "root", SilenceErrors: true, SilenceUsage: true}
	list := &cobra.Command{Use: "list", RunE: func(cmd *cobra.Command, _ []string) error {
		return form.Print(cmd.OutOrStdout(), map[string]int{"a": 1}, func(w io.Writer) error {
			_, err := io.WriteString(w, "for people\n")
			return err
		})
	}}
	root.AddCommand(list)
	form.Register(root, root.PersistentFlags(), Table)
	var out, errs bytes.Buffer
	code = Run(context.Background(), root, func(*cobra.Command, error) string { return "" }, args, nil, &out, &errs)
	return code, out.String(), errs.String()
}

func TestTheFlagChoosesTheForm(t *testing.T) {
	for form, want := range map[string]string{"table": "for people\n", "json": "{\n  \"a\": 1\n}\n", "yaml": "a: 1\n"} {
		if code, out, errs := command(t, "list", "-o", form); code != 0 || out != want {
			t.Errorf("-o %s: exit code %d, %q, %s", form, code, out, errs)
		}
	}
	if _, out, _ := command(t, "list"); out != "for people\n" {
		t.Errorf("without the flag: %q", out)
	}
	code, out, errs := command(t, "list", "--output", "xml")
	if code != ExitUsage || out != "" || !strings.Contains(errs, `"xml"`) || !strings.Contains(errs, "want table, json or yaml") {
		t.Errorf("-o xml: exit code %d, %q, %q", code, out, errs)
	}
	if _, out, _ := command(t, cobra.ShellCompNoDescRequestCmd, "list", "-o", ""); !strings.HasPrefix(out, "table\njson\nyaml\n") {
		t.Errorf("the completions are %q", out)
	}
}
