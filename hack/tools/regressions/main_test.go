package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, lines ...string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	repeated := func(line string, values ...string) (out []string) {
		for _, v := range values {
			out = append(out, strings.ReplaceAll(line, "V", v))
		}
		return out
	}
	old := write("old.txt", append(append([]string{
		"goos: linux", "BenchmarkSlower-2 1 100 ns/op", "BenchmarkFaster-2 1 100 ns/op", "BenchmarkLoad-2 1 1000 final/s 10 p99-ms",
		"BenchmarkGone-2 1 1 ns/op", "a table between them",
	}, repeated("BenchmarkNoise-2 1 V ns/op", "100", "150", "90", "160")...), repeated("BenchmarkSure-2 1 V B/op", "100", "101", "99", "100")...)...)
	now := write("new.txt", append(append([]string{
		"BenchmarkSlower-2 1 150 ns/op", "BenchmarkFaster-2 1 50 ns/op", "BenchmarkLoad-2 1 800 final/s 10.1 p99-ms", "BenchmarkNew-2 1 1 ns/op",
	}, repeated("BenchmarkNoise-2 1 V ns/op", "155", "95", "165", "140")...), repeated("BenchmarkSure-2 1 V B/op", "120", "121", "119", "120")...)...)
	var out strings.Builder
	if err := run(&out, old, now, 0.05); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{"3 of 6 figures", "+50 %  Slower-2", "+25 %  Load-2: 1000 -> 800 final/s", "+20 %  Sure-2"}
	if len(lines) != len(want) {
		t.Fatalf("%s", out.String())
	}
	for i, part := range want {
		if !strings.Contains(lines[i], part) {
			t.Errorf("line %d lacks %q:\n%s", i, part, out.String())
		}
	}
	if unsure := strings.Count(out.String(), "too few runs"); unsure != 2 || strings.Contains(lines[3], "too few") {
		t.Errorf("%d lines say that they are unsure:\n%s", unsure, out.String())
	}
	if err := run(&out, old, write("other.txt", "BenchmarkOther-2 1 1 ns/op"), 0.05); err == nil {
		t.Error("results without a common benchmark were compared")
	}
}
