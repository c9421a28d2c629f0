package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const sumsFile = "SHA256SUMS"

// sums returns the SHA-256 of every file below a folder, in hex, by its name with slashes.
func sums(dir string) (map[string]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a folder", path)
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		found[filepath.ToSlash(name)], err = sum(path)
		return err
	})
	return found, err
}

// sum is the SHA-256 of a file, in hex.
func sum(path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }() // it was only read
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// writeSums writes the sums of a folder in the form that `sha256sum -c` reads.
func writeSums(dir string) error {
	found, err := sums(dir)
	if err != nil {
		return err
	}
	delete(found, sumsFile)
	if len(found) == 0 {
		return fmt.Errorf("%s has no files", dir)
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if strings.ContainsAny(name, "\n\\") {
			return fmt.Errorf("sha256sum does not read the name %q", name)
		}
		fmt.Fprintf(&out, "%s  %s\n", found[name], name)
	}
	return os.WriteFile(filepath.Join(dir, sumsFile), out.Bytes(), 0o644)
}

// compare prints the files of two folders with their sums, and fails if a file differs, or is in
// one of them only.
func compare(one, two string, stdout io.Writer) error {
	a, err := sums(one)
	if err != nil {
		return err
	}
	b, err := sums(two)
	if err != nil {
		return err
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	if len(all) == 0 {
		return fmt.Errorf("%s and %s have no files", one, two)
	}
	var different []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch {
		case a[name] == b[name]:
			fmt.Fprintf(stdout, "same    %s  %s\n", a[name][:16], name)
			continue
		case a[name] == "" || b[name] == "":
			fmt.Fprintf(stdout, "alone                     %s\n", name)
		default:
			fmt.Fprintf(stdout, "DIFFERS %s  %s, and %s\n", a[name][:16], name, b[name][:16])
		}
		different = append(different, name)
	}
	if len(different) > 0 {
		return fmt.Errorf("%d of %d files differ: %s", len(different), len(all), strings.Join(different, ", "))
	}
	_, err = fmt.Fprintf(stdout, "%d files are the same, byte for byte\n", len(all))
	return err
}
