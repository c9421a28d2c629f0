package transcript

import "testing"

// TestMatchesSeesDifferences holds the comparison of transcripts to its rules.
func TestMatchesSeesDifferences(t *testing.T) {
	for _, c := range []struct {
		documented, output string
		want               bool
	}{
		{"final at height 3\n", "final at height 12\n", true},
		{"final at height 3\n", "refused at height 3\n", false},
		{"by 3 validators", "by 2 validators", false},
		{"a\n...\nz\n", "a\nb\nc\nz\n", true},
		{"a\n...\nz\n", "a\nz\n", true},
		{"a\n...\nz\n", "a\nb\n", false},
		{"...\nz\n", "a\nz\n", true},
		{"", "", true},
		{"", "an error\n", false},
		{"took 0.8 s, 2026-11-30T17:00:00.1Z", "took 12 s, 2027-01-01T00:00:00Z", true},
		{"pid 1, /home/you/diseq/.devnet/x", "pid 22, /tmp/y/.devnet/x", true},
	} {
		if got := Matches(c.documented, c.output); got != c.want {
			t.Errorf("%q and %q: got %v", c.documented, c.output, got)
		}
	}
}
