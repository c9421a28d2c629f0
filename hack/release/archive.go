package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// A file is a member of an archive. Archives of a release have no folders of their own: readers
// make those that a name needs.
type file struct {
	name       string
	executable bool
	content    []byte
}

// packFiles writes an archive of files, each given as NAME=FILE.
func packFiles(out string, pairs []string, made time.Time) error {
	files := make([]file, 0, len(pairs))
	for _, pair := range pairs {
		name, from, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q: want NAME=FILE", pair)
		}
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		files = append(files, file{name, info.Mode()&0o100 != 0, content})
	}
	packed, err := pack(files, made)
	if err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	return os.WriteFile(out, packed, 0o644)
}

// repack writes an archive again with the times, owners, modes and order of pack.
func repack(archive string, made time.Time) error {
	raw, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	files, err := unpack(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	packed, err := pack(files, made)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	return os.WriteFile(archive, packed, 0o644)
}

// pack makes a .tar.gz that depends on names, content and time alone: files in the order of their
// names, owned by root, readable by everybody.
func pack(files []file, made time.Time) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	var out bytes.Buffer
	deflated, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(deflated)
	for i, f := range files {
		if f.name == "" || path.IsAbs(f.name) || path.Clean(f.name) != f.name || strings.HasPrefix(f.name, "../") {
			return nil, fmt.Errorf("a file in an archive cannot have the name %q", f.name)
		}
		if i > 0 && files[i-1].name == f.name {
			return nil, fmt.Errorf("%s is there twice", f.name)
		}
		mode := int64(0o644)
		if f.executable {
			mode = 0o755
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: mode, Size: int64(len(f.content)), ModTime: made, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := deflated.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// unpack reads a .tar.gz. It refuses what pack would lose: links and devices.
func unpack(raw []byte) ([]file, error) {
	inflated, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	var files []file
	for r := tar.NewReader(inflated); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			continue
		case tar.TypeReg:
		default:
			return nil, fmt.Errorf("%s is neither a file nor a folder", h.Name)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		files = append(files, file{path.Clean(h.Name), h.Mode&0o100 != 0, content})
	}
}
