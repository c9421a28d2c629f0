// Package trace counts what processes wrote and synced, by file, from the output of strace. A sync
// is what makes a promise durable, and costs the most; how many a message needs shows in no other
// place.
package trace

import (
	"bufio"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Calls are the system calls to trace.
const Calls = "fsync,fdatasync,sync_file_range,syncfs,msync,write,writev,pwrite64,pwritev,pwritev2"

// Flags are the flags of strace, version 5.3 or later, that [Read] understands. Only the calls
// above stop a process, so that it runs at nearly full speed otherwise.
func Flags(out string) []string {
	return []string{"-f", "--seccomp-bpf", "-y", "-ttt", "-qq", "-s", "0", "-e", "trace=" + Calls, "-e", "signal=none", "-o", out}
}

// Counts are of one file, or of files with the same name in the directories of several nodes.
type Counts struct {
	Writes, Syncs int
	Bytes         int64
}

// Sockets is the name under which everything counts that is not a file.
const Sockets = "connections"

var (
	// Such as: 4711 1764500000.12 pwrite64(7</net/node0/data/blocks.db-wal>, ""..., 4096, 0) = 4096
	line = regexp.MustCompile(`^(\d+) +(\d+\.\d+) (\w+)\((?:\d+<(.*?)>)?(?:[,)]| <)(.*)$`)
	// Such as: 4711 1764500000.12 <... pwrite64 resumed>) = 4096
	resumed = regexp.MustCompile(`^(\d+) +(\d+\.\d+) <\.\.\. (\w+) resumed>(.*)$`)
	digits  = regexp.MustCompile(`[0-9a-f]*[0-9]{3,}[0-9a-f]*`)
)

// Read counts the calls that ended between two times, in seconds of the Unix era. Files are named
// by their place below the directory "data" of a node; numbers of three digits or more become "*".
// Others, such as logs and pipes, are left out.
func Read(r io.Reader, from, to float64) (map[string]Counts, error) {
	out := map[string]Counts{}
	begun := map[string]string{} // the file of the call that a thread is in
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var call, file, rest, at string
		if m := resumed.FindStringSubmatch(lines.Text()); m != nil {
			at, call, file, rest = m[2], m[3], begun[m[1]], m[4]
			delete(begun, m[1])
		} else if m := line.FindStringSubmatch(lines.Text()); m != nil {
			if strings.HasSuffix(m[5], "unfinished ...>") {
				begun[m[1]] = m[4]
				continue
			}
			at, call, file, rest = m[2], m[3], m[4], m[5]
		} else {
			continue
		}
		name, ok := nameOf(file)
		when, err := strconv.ParseFloat(at, 64)
		if !ok || err != nil || when < from || when > to {
			continue
		}
		c := out[name]
		if !strings.Contains(call, "write") {
			c.Syncs++
		} else if n, ok := result(rest); ok {
			c.Writes++
			c.Bytes += n
		}
		out[name] = c
	}
	return out, lines.Err()
}

// result is what the call returned, if it succeeded.
func result(rest string) (int64, bool) {
	at := strings.LastIndex(rest, "= ")
	if at < 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(rest[at+2:]), 10, 64)
	return n, err == nil && n >= 0
}

func nameOf(file string) (string, bool) {
	if strings.HasPrefix(file, "socket:") || strings.HasPrefix(file, "TCP") {
		return Sockets, true
	}
	_, below, ok := strings.Cut(path.Clean(file), "/data/")
	return digits.ReplaceAllString(below, "*"), ok
}
