package access

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/diseq/diseq/node/internal/yamlfile"
)

// reading reads files and remembers what was in each, so that a later look can tell whether
// anything has changed. Times of files do not tell: a volume of Kubernetes and a restored backup
// both set them freely.
type reading struct {
	dir  string
	seen map[string][sha256.Size]byte
}

func newReading(dir string) *reading {
	return &reading{dir: dir, seen: map[string][sha256.Size]byte{}}
}

// path makes a path of a file absolute.
func (r *reading) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.dir, name)
}

// file reads a file of at most 1 MiB.
func (r *reading) file(name string) ([]byte, error) {
	path := r.path(name)
	raw, sum, err := look(path)
	r.seen[path] = sum
	return raw, err
}

// look returns a file's content, and a sum that differs for each content and each error.
func look(path string) ([]byte, [sha256.Size]byte, error) {
	raw, err := yamlfile.Read(path)
	if err != nil {
		return nil, sha256.Sum256(fmt.Appendf(nil, "error %v", err)), err
	}
	return raw, sha256.Sum256(append([]byte("content "), raw...)), nil
}

// changed reports whether a file that was read is another one now.
func (r *reading) changed() bool {
	for path, before := range r.seen {
		if _, now, _ := look(path); now != before {
			return true
		}
	}
	return false
}

// gone says that a file is not there, rather than unreadable.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// refresh takes the files for seen as they are.
func (r *reading) refresh() {
	for path := range r.seen {
		_, r.seen[path], _ = look(path)
	}
}
