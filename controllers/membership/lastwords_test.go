package membership

import (
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
)

// A crash is reported with the line of the container's log that says why it ended. The line is
// short, and safe for a terminal.
func TestACrashIsToldWithTheLastLineOfTheLog(t *testing.T) {
	const trace = "goroutine 1 [running]:\nmain.main()\n\t/src/cmd/diseq/main.go:34 +0x1d\n"
	for name, tt := range map[string]struct {
		ended corev1.ContainerStateTerminated
		want  string
	}{
		"one line": {corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "diseq node: peers: no such file\n"},
			"Error, exit code 1: diseq node: peers: no such file"},
		"the last of several": {corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error",
			Message: `{"level":"INFO","msg":"node starts"}` + "\n\n" + "diseq node: genesis: not found\n\n"},
			"Error, exit code 1: diseq node: genesis: not found"},
		"a line in JSON": {corev1.ContainerStateTerminated{ExitCode: 1, Message: `{"time":"2026","level":"ERROR","msg":"block not written","err":"input/output error","height":4}` + "\n"},
			"exit code 1: block not written: input/output error"},
		"JSON that is no log": {corev1.ContainerStateTerminated{ExitCode: 1, Message: `{"a": 1}`}, `exit code 1: {"a": 1}`},
		"out of memory: the last line is about something else": {corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled", Message: "block final\n"},
			"OOMKilled, exit code 137: the container needed more than its memory limit"},
		"killed":             {corev1.ContainerStateTerminated{ExitCode: 137, Reason: "Error", Message: " \n"}, "Error, exit code 137"},
		"an end without one": {corev1.ContainerStateTerminated{ExitCode: 2}, "exit code 2"},
		"a panic": {corev1.ContainerStateTerminated{ExitCode: 2, Reason: "Error", Message: "panic: runtime error: index out of range [3]\n\n" + trace + "exit status 2\n"},
			"Error, exit code 2: panic: runtime error: index out of range [3]"},
		"the end of a panic": {corev1.ContainerStateTerminated{ExitCode: 2, Reason: "Error", Message: trace},
			"Error, exit code 2: its log ends with a stack trace"},
		"what a terminal would obey": {corev1.ContainerStateTerminated{ExitCode: 1, Message: "bad \x1b[31mname\x1b[0m\t\"\xff\xfeä\u202e\x00\"\r\n"},
			`exit code 1: bad [31mname[0m "ä"`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := terminated(&tt.ended); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
	for _, long := range []string{strings.Repeat("a", 5000), strings.Repeat("ä", 3000), strings.Repeat("a b ", 1000)} {
		words := lastWords(long)
		if len(words) > 256 || len(words) < 250 || !utf8.ValidString(words) || !strings.HasSuffix(words, "...") {
			t.Errorf("%d bytes: %q", len(words), words)
		}
	}
}
