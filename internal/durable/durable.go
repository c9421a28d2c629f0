// Package durable makes files that a power cut does not take: it syncs the directories that name
// them as well. Without that a file may be gone whose content was synced.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// MakeDirectory makes a directory and those above it, as far as they do not exist. They are durable
// when it returns nil.
func MakeDirectory(dir string, mode fs.FileMode) error {
	dir = filepath.Clean(dir)
	above := filepath.Dir(dir)
	if _, err := os.Stat(dir); err == nil || above == dir {
		return err
	}
	if err := MakeDirectory(above, mode); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return Sync(above)
}

// Sync waits until a file or a directory is on disk as it is. For a directory these are the names
// in it, not what they name.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// WriteFile replaces a file, whole or not at all. The new content is on disk when it returns nil.
// Its name with ".new" must be free for it.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, content, mode); err != nil {
		return err
	}
	if err := Sync(fresh); err != nil {
		return err
	}
	return Rename(fresh, path)
}

// Rename renames a file or directory within its directory. The new name is durable when it returns
// nil.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return Sync(filepath.Dir(to))
}
