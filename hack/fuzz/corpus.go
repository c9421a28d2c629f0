package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Limits of the corpus of a target.
const (
	maxInputs = 30
	maxBytes  = 100 << 10
)

// input is a file of Go's corpus format.
type input struct {
	name    string
	content []byte
	// named is true for an input that a person named for what it shows. It stays.
	named bool
}

// selectAll writes the corpus of each target anew.
func (m *module) selectAll(ctx context.Context, targets []target) error {
	if err := m.compile(ctx, targets, "-cover", "-coverpkg=./..."); err != nil {
		return err
	}
	for _, t := range targets {
		inputs, err := m.inputs(ctx, t)
		if err != nil {
			return err
		}
		chosen, err := m.choose(ctx, t, inputs)
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		if err := m.write(t, chosen); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		size := 0
		for _, in := range chosen {
			size += len(in.content)
		}
		m.progress("")
		fmt.Printf("%s: %d of %d inputs, %d bytes\n", t, len(chosen), len(inputs), size)
	}
	return nil
}

// inputs returns the inputs of testdata/fuzz and of the cache for a target: those named by a person
// first, then the small before the large.
func (m *module) inputs(ctx context.Context, t target) ([]input, error) {
	found, err := m.found(ctx, t.dir)
	if err != nil {
		return nil, err
	}
	var all []input
	for _, dir := range []string{m.corpus(t), filepath.Join(found, t.name)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(all, func(in input) bool { return bytes.Equal(in.content, content) }) {
				continue
			}
			all = append(all, input{name: e.Name(), content: content, named: strings.Trim(e.Name(), "0123456789abcdef") != ""})
		}
	}
	slices.SortStableFunc(all, func(a, b input) int {
		switch {
		case a.named && !b.named:
			return -1
		case b.named && !a.named:
			return 1
		}
		return cmp.Or(cmp.Compare(len(a.content), len(b.content)), strings.Compare(a.name, b.name))
	})
	return all, nil
}

func (m *module) corpus(t target) string {
	return filepath.Join(m.root, filepath.FromSlash(t.dir), "testdata", "fuzz", t.name)
}

// choose takes the inputs that a person named. Then, as long as the bounds allow, it takes the
// input that covers most of the code not covered yet, and the smaller of two that cover as much. It
// leaves out an input that the target refuses, such as one from before its arguments changed, or
// skips.
func (m *module) choose(ctx context.Context, t target, inputs []input) ([]input, error) {
	scratch, err := m.scratch(t)
	if err != nil {
		return nil, err
	}
	lacking := make([][]string, len(inputs))
	for i, in := range inputs {
		m.progress(fmt.Sprintf("%s: %d of %d inputs", t, i, len(inputs)))
		lacking[i], err = m.covered(ctx, t, scratch, in)
		if err != nil && (in.named || ctx.Err() != nil) {
			return nil, err
		}
	}
	var chosen []input
	size := 0
	seen := make(map[string]bool)
	take := func(i int) {
		chosen = append(chosen, inputs[i])
		size += len(inputs[i].content)
		for _, block := range lacking[i] {
			seen[block] = true
		}
		for j := range lacking {
			lacking[j] = slices.DeleteFunc(lacking[j], func(block string) bool { return seen[block] })
		}
	}
	for i, in := range inputs {
		if in.named {
			take(i)
		}
	}
	for len(chosen) < maxInputs {
		best := -1
		for i, in := range inputs {
			if len(lacking[i]) > 0 && size+len(in.content) <= maxBytes && (best < 0 || len(lacking[i]) > len(lacking[best])) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		take(best)
	}
	return chosen, nil
}

// scratch makes a directory that looks like the package's to a test, but has an empty corpus: a
// single input of another type would fail the whole target.
func (m *module) scratch(t target) (string, error) {
	scratch := filepath.Join(m.binaries, t.String())
	if err := os.MkdirAll(filepath.Join(scratch, "testdata", "fuzz", t.name), 0o755); err != nil {
		return "", err
	}
	source, err := filepath.Abs(filepath.Join(m.root, filepath.FromSlash(t.dir)))
	if err != nil {
		return "", err
	}
	for _, sub := range []string{"", "testdata"} {
		entries, err := os.ReadDir(filepath.Join(source, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, e := range entries {
			if e.Name() == "testdata" || sub != "" && e.Name() == "fuzz" {
				continue
			}
			if err := os.Symlink(filepath.Join(source, sub, e.Name()), filepath.Join(scratch, sub, e.Name())); err != nil {
				return "", err
			}
		}
	}
	return scratch, nil
}

// covered returns the blocks of code that an input reaches.
func (m *module) covered(ctx context.Context, t target, scratch string, in input) ([]string, error) {
	binary, err := filepath.Abs(m.binary(t.dir))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(scratch, "testdata", "fuzz", t.name, in.name)
	if err := os.WriteFile(path, in.content, 0o600); err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(path) }() // scratch is removed in the end
	profile := filepath.Join(m.binaries, "profile")
	c := exec.CommandContext(ctx, binary, "-test.v", "-test.run=^"+t.name+"$/^"+in.name+"$", "-test.coverprofile="+profile)
	c.Dir = scratch
	out, err := c.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("input %s: %w\n%s", in.name, err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: "+t.name+"/"+in.name)) {
		return nil, nil
	}
	raw, err := os.ReadFile(profile)
	if err != nil {
		return nil, err
	}
	var blocks []string
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		if block, ok := strings.CutSuffix(lines.Text(), " 1"); ok {
			blocks = append(blocks, block)
		}
	}
	return blocks, nil
}

// write replaces the target's corpus by the chosen inputs.
func (m *module) write(t target, chosen []input) error {
	dir := m.corpus(t)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, in := range chosen {
		if err := os.WriteFile(filepath.Join(dir, in.name), in.content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
