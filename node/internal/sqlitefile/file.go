package sqlitefile

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/diseq/diseq/internal/durable"
)

// A Schema tells one kind of file from another, and one version of it from the next.
type Schema struct {
	// Application is SQLite's application_id.
	Application uint32
	// PageSize is in bytes.
	PageSize int
	// Migrations[i] takes a file from version i to i+1 (SQLite's user_version).
	Migrations []string
	// WalkLimit is the size, in bytes, up to which Inspect walks the whole structure of a file:
	// some 5 ms a MiB.
	WalkLimit int64
}

// Version returns the newest version of the schema.
func (s *Schema) Version() int { return len(s.Migrations) }

// A File is a SQLite file by its path and schema.
type File struct {
	Path   string
	Schema *Schema
}

// files are the names beside a database that SQLite may use for it.
var files = [...]string{"", "-wal", "-shm", "-journal"}

// Exists reports whether there is anything at the file's path.
func (f *File) Exists() (bool, error) {
	_, err := os.Lstat(f.Path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Create makes a new file under another name, fills it and renames it: a crash leaves either no
// file or a whole one.
func (f *File) Create(fill func(*sql.Tx) error) error {
	exists, err := f.Exists()
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if exists {
		return fmt.Errorf("create %s: %w", f.Path, os.ErrExist)
	}
	fresh := &File{Path: f.Path + ".new", Schema: f.Schema}
	if err := fresh.Remove(); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	err = fresh.fill(fill)
	if err == nil {
		err = os.Chmod(fresh.Path, 0o600)
	}
	if err == nil {
		err = durable.Rename(fresh.Path, f.Path)
	}
	return f.Explain("create", err)
}

func (f *File) fill(fill func(*sql.Tx) error) (err error) {
	db, err := f.pool(create, 1, nil)
	if err != nil {
		return err
	}
	// closing moves the log into the file and syncs it
	defer func() { err = errors.Join(err, db.Close()) }()
	// Not with the other pragmas: once a connection has set its journal mode the page size stands.
	if _, err := db.Exec(fmt.Sprintf("PRAGMA page_size = %d; PRAGMA journal_mode = WAL", f.Schema.PageSize)); err != nil {
		return err
	}
	return f.migrate(db, 0, fill)
}

// settle makes what is in the file durable, and the names of the file and its log. A process that
// was killed may have left what it never synced: whoever reads that and tells others must not lose
// it to a power cut.
func (f *File) settle() error {
	for _, path := range []string{f.Path, f.Path + "-wal", filepath.Dir(f.Path)} {
		if err := durable.Sync(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return f.Explain("sync", err)
		}
	}
	return nil
}

// Remove deletes the file with its log. If there is none, it does nothing.
func (f *File) Remove() error {
	for _, suffix := range files {
		if err := os.Remove(f.Path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Upgrade takes a file from an older version of its schema to the newest.
func (f *File) Upgrade(from int) error {
	if from == f.Schema.Version() {
		return nil
	}
	db, err := f.OpenWriting(1, nil)
	if err != nil {
		return err
	}
	return f.Explain("migrate", errors.Join(f.migrate(db, from, nil), db.Close()))
}

// migrate runs the migrations from a version on, and fill, in one transaction.
func (f *File) migrate(db *sql.DB, from int, fill func(*sql.Tx) error) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	for _, m := range f.Schema.Migrations[from:] {
		if _, err := tx.Exec(m); err != nil {
			return err
		}
	}
	header := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", f.Schema.Application, f.Schema.Version())
	if _, err := tx.Exec(header); err != nil {
		return err
	}
	if fill != nil {
		if err := fill(tx); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Inspect reads an existing file without changing a byte of it: header, version, structure if the
// file is small, and whatever check reads. It returns the version of the file's schema.
func (f *File) Inspect(check func(*sql.DB) error) (version int, err error) {
	if err := f.inspectHeader(); err != nil {
		return 0, err
	}
	size, log, err := f.Sizes()
	if err != nil {
		return 0, fmt.Errorf("inspect: %w", err)
	}
	mode := readOnly
	if log == 0 {
		mode = immutable
	}
	db, err := f.pool(mode, 1, reading)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return 0, f.Explain("read the version", err)
	}
	if newest := f.Schema.Version(); version > newest {
		return 0, fmt.Errorf("%s: %w: schema version %d, this program knows up to %d",
			filepath.Base(f.Path), ErrNewerSchema, version, newest)
	}
	if version < 1 {
		return 0, f.Corrupt("schema version %d", version)
	}
	if size+log <= f.Schema.WalkLimit {
		var verdict string
		if err := db.QueryRow("PRAGMA quick_check(1)").Scan(&verdict); err != nil {
			return 0, f.Explain("check", err)
		}
		if verdict != "ok" {
			return 0, f.Corrupt("%s", verdict)
		}
	}
	return version, check(db)
}

// inspectHeader reads the first 100 bytes, by the documented file format
// (https://sqlite.org/fileformat.html), before SQLite sees the file.
func (f *File) inspectHeader() (err error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("inspect %s: not a regular file: %s", f.Path, info.Mode().Type())
	}
	var header [100]byte
	if _, err := io.ReadFull(file, header[:]); err != nil {
		return f.Corrupt("shorter than the header of a database: %w", err)
	}
	if !bytes.HasPrefix(header[:], []byte("SQLite format 3\x00")) {
		return f.Corrupt("not a database")
	}
	if id := binary.BigEndian.Uint32(header[68:]); id != f.Schema.Application {
		return f.Corrupt("a database of another application (id %#x, want %#x)", id, f.Schema.Application)
	}
	return nil
}

// Sizes returns the sizes, in bytes, of the database and of its write-ahead log, 0 if it has none.
func (f *File) Sizes() (size, log int64, err error) {
	info, err := os.Stat(f.Path)
	if err != nil {
		return 0, 0, err
	}
	wal, err := os.Stat(f.Path + "-wal")
	switch {
	case errors.Is(err, os.ErrNotExist):
		return info.Size(), 0, nil
	case err != nil:
		return 0, 0, err
	}
	return info.Size(), wal.Size(), nil
}
