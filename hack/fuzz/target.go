package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// module is the module whose targets run.
type module struct {
	root string
	// time is how long each target runs. A target that had only time for its corpus runs again, for
	// patience.
	time, patience string
	// binaries is the directory of the test binaries, cache the one where go test -fuzz keeps its
	// inputs.
	binaries, cache string
	progress        func(string)
}

// target is a fuzz target: the directory of its package below the module's root, with slashes, and
// its name.
type target struct{ dir, name string }

func (t target) String() string { return t.dir + "." + t.name }

// result is the progress of a target, and in the end its outcome.
type result struct {
	target
	// took is how long it has run, execs the number of inputs that it ran, interesting the number
	// of those that reached code which no input of the corpus had reached.
	took        time.Duration
	execs       int64
	interesting int
	corpus      int
	// baseline is how much of the corpus has run, such as "3/30", until the fuzzer counts inputs of
	// its own.
	baseline string
	err      error
	// output holds the lines that it printed, failing the path of the input that failed, rerunning
	// the command that runs that input alone.
	output             string
	failing, rerunning string
}

// discover lists the targets of a module in order; modules inside it are not its own.
func discover(root, only string) ([]target, error) {
	var found []target
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, notOurs := os.Stat(filepath.Join(path, "go.mod"))
			if name := entry.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || notOurs == nil) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, declared := range source.Decls {
			f, ok := declared.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			if t := (target{filepath.ToSlash(dir), f.Name.Name}); strings.Contains(t.String(), only) {
				found = append(found, t)
			}
		}
		return nil
	})
	slices.SortFunc(found, func(a, b target) int { return strings.Compare(a.String(), b.String()) })
	return found, err
}

// compile builds the test binary of each package once, since linking takes long.
func (m *module) compile(ctx context.Context, targets []target, flags ...string) error {
	dirs := make([]string, len(targets))
	for i, t := range targets {
		dirs[i] = t.dir
	}
	for _, dir := range slices.Compact(dirs) {
		m.progress("compiling " + dir)
		args := append(append([]string{"test", "-c"}, flags...), "-o", m.binary(dir), "./"+dir)
		c := exec.CommandContext(ctx, "go", args...)
		c.Dir = m.root
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("compiling %s: %w\n%s", dir, err, out)
		}
	}
	return nil
}

func (m *module) binary(dir string) string {
	return filepath.Join(m.binaries, strings.ReplaceAll(dir, "/", "-")+".test")
}

// found is the directory of the inputs found for a package.
func (m *module) found(ctx context.Context, dir string) (string, error) {
	c := exec.CommandContext(ctx, "go", "list", "-f", "{{.ImportPath}}", "./"+dir)
	c.Dir = m.root
	path, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("go list ./%s: %w", dir, err)
	}
	return filepath.Join(m.cache, filepath.FromSlash(strings.TrimSpace(string(path)))), nil
}

// deadlines is how often a target is run again if the fuzzer mistook the end of its time for a
// failure of the target.
const deadlines = 5

// fuzz runs one target.
func (m *module) fuzz(ctx context.Context, t target, show *board) result {
	r := result{target: t}
	cache, err := m.found(ctx, t.dir)
	if err != nil {
		r.err = err
		return r
	}
	limit := m.time
	for range deadlines {
		r = result{target: t}
		m.once(ctx, &r, limit, cache, show)
		switch {
		case errors.Is(r.err, errRanNothing) && limit != m.patience:
			limit = m.patience // on a busy machine the corpus alone may take longer
		case r.err == nil || r.failing != "" || !strings.Contains(r.output, "context deadline exceeded"):
			return r
		}
	}
	return r
}

// errRanNothing is the error of a target whose time ended before its corpus had run: it has shown
// nothing.
var errRanNothing = errors.New("ran no input")

func (m *module) once(ctx context.Context, r *result, limit, cache string, show *board) {
	// The test binary runs where go test would run it; paths in it are relative to there.
	binary, err := filepath.Abs(m.binary(r.dir))
	if err != nil {
		r.err = err
		return
	}
	c := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.fuzz=^"+r.name+"$", "-test.fuzztime="+limit,
		"-test.fuzzminimizetime=10x", "-test.fuzzcachedir="+cache, "-test.parallel=1")
	c.Dir = filepath.Join(m.root, filepath.FromSlash(r.dir))
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	out, in := io.Pipe()
	c.Stdout, c.Stderr = in, in
	read := make(chan struct{})
	go func() {
		defer close(read)
		r.read(out, show)
	}()
	start := time.Now()
	err = c.Run()
	_ = in.Close() // a pipe in memory
	<-read         // until here the result is the reader's, which the board copies
	r.err, r.took = err, time.Since(start)
	if r.err == nil && r.execs == 0 {
		r.err = fmt.Errorf("%w in %s: of the corpus %s", errRanNothing, limit, cmp.Or(r.baseline, "none"))
	}
}

var (
	fuzzing = regexp.MustCompile(`^fuzz: elapsed: (\S+), execs: (\d+) \(\d+/sec\), new interesting: (\d+) \(total: (\d+)\)`)
	// gathering is printed until the corpus has run. With a large corpus and little time, nothing
	// else is printed.
	gathering = regexp.MustCompile(`^fuzz: elapsed: .* (\d+/\d+) completed`)
	written   = regexp.MustCompile(`Failing input written to (\S+)`)
	// corpus is a failing input of testdata/fuzz or of the source. The source names it seed#N.
	corpus = regexp.MustCompile(`failure while testing seed corpus entry: (\S+)`)
	rerun  = regexp.MustCompile(`^\s+(go test -run=\S+)\s*$`)
)

// maxOutput bounds the kept output of a target: a failure says the important things first.
const maxOutput = 16 << 10

// read reads the output of the fuzzer.
func (r *result) read(from io.Reader, show *board) {
	var kept bytes.Buffer
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		if match := fuzzing.FindStringSubmatch(line); match != nil {
			r.execs, _ = strconv.ParseInt(match[2], 10, 64) // digits
			r.interesting, _ = strconv.Atoi(match[3])
			r.corpus, _ = strconv.Atoi(match[4])
			r.took, _ = time.ParseDuration(match[1])
			show.update(r)
		} else if match := gathering.FindStringSubmatch(line); match != nil {
			r.baseline = match[1]
		} else if kept.Len() < maxOutput {
			kept.WriteString(line)
		}
		if match := written.FindStringSubmatch(line); match != nil {
			r.failing = r.dir + "/" + match[1]
		}
		if match := corpus.FindStringSubmatch(line); match != nil {
			r.rerunning = "go test -run=" + match[1]
			if r.failing = "the code, f.Add " + match[1]; !strings.Contains(match[1], "seed#") {
				r.failing = r.dir + "/testdata/fuzz/" + match[1]
			}
		}
		if match := rerun.FindStringSubmatch(line); match != nil {
			r.rerunning = match[1]
		}
		if err != nil {
			r.output = kept.String()
			return
		}
	}
}

// advice says what to do about a failure.
func (r *result) advice() string {
	text := r.output
	if r.failing != "" {
		text += "failing input: " + r.failing + "\n"
	}
	if r.rerunning != "" {
		text += "run it alone:  " + r.rerunning + " ./" + r.dir + "\n"
	}
	return text
}
