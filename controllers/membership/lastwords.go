package membership

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
)

// Limits in bytes of the last line of a container's log, and of all that Kubernetes says of a pod.
const (
	longestWords = 256
	longestCause = longestWords + 64
)

// oomKilled is the reason of Kubernetes for a container that the kernel ended for want of memory.
const oomKilled = "OOMKilled"

// terminated says how a container exited, with its last words: the last line of its log.
func terminated(t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("exit code %d", t.ExitCode)
	if t.Reason != "" {
		text = t.Reason + ", " + text
	}
	if t.Reason == oomKilled {
		// The kernel gave no warning, so that the last line is about something else.
		return text + ": the container needed more than its memory limit"
	}
	if words := lastWords(t.Message); words != "" {
		text += ": " + words
	}
	return text
}

// frame matches lines of a stack trace: a function's place in its file, a goroutine's head, the
// creator of a goroutine.
var frame = regexp.MustCompile(`^(\S+\.go:\d+( \+0x[0-9a-f]+)?|goroutine \d+ .*|created by .*|\[signal .*|exit status \d+)$`)

// lastWords is the line of a termination message that says why a container ended: the last one, or
// the one that begins a panic. Kubernetes takes the end of the container's log for the message, if
// the container wrote none. The line has printable characters alone, and is short.
func lastWords(message string) string {
	var last string
	traced := false
	for line := range strings.Lines(message) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "panic: "), strings.HasPrefix(line, "fatal error: "):
			return printable(line, longestWords)
		default:
			traced = frame.MatchString(line)
			last = line
		}
	}
	if traced {
		return "its log ends with a stack trace"
	}
	return printable(fromJSON(last), longestWords)
}

// fromJSON is the message of a log line in JSON, with its error; another line is returned as it is.
func fromJSON(line string) string {
	var record struct{ Msg, Err, Error string }
	if json.Unmarshal([]byte(line), &record) != nil || record.Msg == "" {
		return line
	}
	for _, err := range []string{record.Err, record.Error} {
		if err != "" {
			return record.Msg + ": " + err
		}
	}
	return record.Msg
}

// printable is a text in one line of at most so many bytes, without characters that a terminal
// would obey.
func printable(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == unicode.ReplacementChar:
			return -1
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= most {
		return text
	}
	const more = "..."
	return strings.ToValidUTF8(text[:most-len(more)], "") + more
}
