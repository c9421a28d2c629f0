package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/diseq/diseq/hack/bench/record"
)

func origin() record.Origin {
	return record.Origin{
		Command: "make bench", When: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Machine: "2 x some processor", Commit: "abc1234", Busy: 0.034,
	}
}

func TestTablesAreWrittenInTheirPlaces(t *testing.T) {
	dir, document := t.TempDir(), filepath.Join(t.TempDir(), "performance.md")
	table := record.Table{Name: "scaling", Origin: origin(), Columns: []string{"request", "final/s"}}
	table.Add(100, 12345.6)
	table.Add("a|b", 1.234)
	if err := table.Write(dir); err != nil {
		t.Fatal(err)
	}
	before := "# Title\n\n<!-- measured: scaling -->\nold\n<!-- end -->\n\nText.\n\n<!-- measured: unmeasured -->\n\nstays\n\n<!-- end -->\n"
	want := "# Title\n\n<!-- measured: scaling -->\n\n| request | final/s |\n|---|---|\n| 100 | 12,346 |\n| a\\|b | 1.23 |\n\n" +
		"`make bench`,\n2026-03-01, commit abc1234, 2 x some processor; other programs took 3 % of the processors.\n\n<!-- end -->\n\n" +
		"Text.\n\n<!-- measured: unmeasured -->\n\nstays\n\n<!-- end -->\n"
	if err := os.WriteFile(document, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it changes nothing
		if err := run(dir, document); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

func TestAGoalWithoutAFigureSaysSo(t *testing.T) {
	dir := t.TempDir()
	m := record.Measured{Goal: "cpu", Figure: "80 us", Origin: origin()}
	if err := m.Write(dir); err != nil {
		t.Fatal(err)
	}
	short := record.Measured{Goal: "history", Figure: "0.95 at 1.2 million", Partial: true, Origin: origin()}
	if err := short.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := content(dir, goals)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 84 us | 35 us | 80 us (missed) | `make bench` | 2026-03-01 |\n",
		"| 0.9 | 0.95 at 1.2 million (not the whole measurement) | `make bench` | 2026-03-01 |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if without := strings.Count(got, "| not measured yet |"); without != len(record.Goals)-2 {
		t.Errorf("%d of %d goals without a figure say so, in\n%s", without, len(record.Goals)-1, got)
	}
}

func TestPlacesThatAreWrong(t *testing.T) {
	for _, text := range []string{
		"<!-- measured: a -->\n", "<!-- measured: a -->\n<!-- measured: b -->\n<!-- end -->\n", "<!-- measured:  -->\n<!-- end -->\n",
		"<!-- measured: a\n<!-- end -->\n", "<!-- measured: a -->\n<!-- end -->\n<!-- measured: a -->\n<!-- end -->\n",
	} {
		if _, _, _, err := fill(text, func(string) (string, error) { return "", nil }); err == nil {
			t.Errorf("%q was filled", text)
		}
	}
}

// TestTheDocument holds that docs/performance.md has the goals of this commit, and places that can
// be filled.
func TestTheDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range record.Goals {
		if row := "| " + g.Measure + " | " + g.Before + " | " + g.Wanted + " |"; !strings.Contains(string(b), row) {
			t.Errorf("docs/performance.md lacks the goal %s: run make bench-tables\n%s", g.ID, row)
		}
	}
	_, filled, _, err := fill(string(b), func(string) (string, error) { return "x", nil })
	if err != nil || len(filled) == 0 {
		t.Errorf("filled %v, %v", filled, err)
	}
}

func TestNumber(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0", 0.0512: "0.05", 1.005: "1.00", 9.999: "10.0", 12.34: "12.3", 99.96: "100", 123.4: "123", 1234: "1,234", 1234567: "1,234,567",
		-1234: "-1,234", -123: "-123", -1.5: "-1.50",
	} {
		if got := record.Number(f); got != want {
			t.Errorf("Number(%v) = %q, want %q", f, got, want)
		}
	}
}
