package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// A schema is what tells one kind of file from another and one version of it from the next.
type schema struct {
	// application is SQLite's application_id.
	application uint32
	pageSize    int
	// migrations[i] takes a file from version i to i+1 (SQLite's user_version).
	migrations []string
}

func (s *schema) version() int { return len(s.migrations) }

type access string

const (
	readWrite access = "rw"
	create    access = "rwc"
	readOnly  access = "ro"
	// immutable promises SQLite that nobody writes; it then creates no file beside the database.
	immutable access = "ro&immutable=1"
)

// source returns the DSN. The pragmas are part of it so that every connection has them, whenever
// the pool opens it.
func source(path string, mode access, pragmas ...string) string {
	// Without OmitHost the first part of a relative path would be taken for a host.
	u := url.URL{Scheme: "file", OmitHost: true, Path: path}
	all := append(pragmas, "busy_timeout(5000)", "trusted_schema(0)", "cell_size_check(1)", "synchronous(FULL)")
	return u.String() + "?mode=" + string(mode) + "&_pragma=" + strings.Join(all, "&_pragma=")
}

// writing are the pragmas of a connection that writes. Checkpoints are run by a checkpointer, and a
// log that grew is cut when it starts again.
func writing() []string {
	return []string{"journal_mode(WAL)", "wal_autocheckpoint(0)", "journal_size_limit(" + strconv.Itoa(logHard) + ")", "cache_size(-4096)"}
}

func reading() []string { return []string{"query_only(1)", "cache_size(-1024)"} }

func openPool(path string, mode access, limit int, pragmas ...string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", source(path, mode, pragmas...))
	if err != nil {
		return nil, explain(path, "open", err)
	}
	db.SetMaxOpenConns(limit)
	db.SetMaxIdleConns(limit)
	return db, nil
}

// createDatabase makes a new file under another name, fills it and renames it: a crash leaves
// either no file or a whole one.
func createDatabase(path string, s *schema, fill func(*sql.Tx) error) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(fmt.Errorf("store: create %s: %w", path, os.ErrExist), err)
	}
	fresh := path + ".new"
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(fresh + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("store: create %s: %w", path, err)
		}
	}
	err := fillDatabase(fresh, s, fill)
	if err == nil {
		err = os.Chmod(fresh, 0o600)
	}
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	return explain(path, "create", err)
}

func fillDatabase(path string, s *schema, fill func(*sql.Tx) error) error {
	db, err := openPool(path, create, 1, append([]string{"page_size(" + strconv.Itoa(s.pageSize) + ")"}, writing()...)...)
	if err != nil {
		return err
	}
	// closing moves the log into the file and syncs it
	return errors.Join(migrate(db, s, 0, fill), db.Close())
}

// migrate runs the migrations from a version on, and fill, in one transaction.
func migrate(db *sql.DB, s *schema, from int, fill func(*sql.Tx) error) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	for _, m := range s.migrations[from:] {
		if _, err := tx.Exec(m); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", s.application, s.version())); err != nil {
		return err
	}
	if fill != nil {
		if err := fill(tx); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// structureLimit is the file size up to which opening walks the whole structure of a database (some
// 0.3 s).
const structureLimit = 64 << 20

// inspect looks at an existing file without changing a byte of it: header, version, structure if it
// is small, and whatever check looks at. It returns the version of its schema.
func inspect(path string, s *schema, check func(*sql.DB) error) (version int, err error) {
	if err := inspectHeader(path, s); err != nil {
		return 0, err
	}
	size, log, err := sizes(path)
	if err != nil {
		return 0, fmt.Errorf("store: inspect %s: %w", path, err)
	}
	mode := readOnly
	if log == 0 {
		mode = immutable
	}
	db, err := openPool(path, mode, 1, reading()...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return 0, explain(path, "read the version", err)
	}
	if version > s.version() {
		return 0, fmt.Errorf("store: %s: %w: schema version %d, this one knows up to %d",
			filepath.Base(path), ErrNewerSchema, version, s.version())
	}
	if version < 1 {
		return 0, corrupt(path, "schema version %d", version)
	}
	if size+log <= structureLimit {
		var verdict string
		if err := db.QueryRow("PRAGMA quick_check(1)").Scan(&verdict); err != nil {
			return 0, explain(path, "check", err)
		}
		if verdict != "ok" {
			return 0, corrupt(path, "%s", verdict)
		}
	}
	return version, check(db)
}

// inspectHeader reads the first 100 bytes, by the documented file format, before SQLite sees the
// file.
func inspectHeader(path string, s *schema) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("store: inspect: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var header [100]byte
	if _, err := io.ReadFull(f, header[:]); err != nil {
		return corrupt(path, "shorter than the header of a database: %w", err)
	}
	if !bytes.HasPrefix(header[:], []byte("SQLite format 3\x00")) {
		return corrupt(path, "not a database")
	}
	if id := binary.BigEndian.Uint32(header[68:]); id != s.application {
		return corrupt(path, "a database of another application (id %#x, want %#x)", id, s.application)
	}
	return nil
}

// sizes returns the sizes of a database and of its write-ahead log, 0 if it has none.
func sizes(path string) (size, log int64, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	wal, err := os.Stat(path + "-wal")
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fi.Size(), 0, nil
	case err != nil:
		return 0, 0, err
	}
	return fi.Size(), wal.Size(), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers a row's number and its content, so that neither a flipped bit nor a misplaced row
// goes unseen.
func checksum(number uint64, parts ...[]byte) int64 {
	sum := crc32.Update(0, castagnoli, binary.BigEndian.AppendUint64(nil, number))
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	return int64(sum)
}

// statements are prepared once on a writer's connection.
type statements map[string]*sql.Stmt

func prepare(ctx context.Context, conn *sql.Conn, path string, queries map[string]string) (statements, error) {
	out := statements{}
	for name, q := range queries {
		stmt, err := conn.PrepareContext(ctx, q)
		if err != nil {
			return nil, errors.Join(explain(path, "prepare "+name, err), out.close())
		}
		out[name] = stmt
	}
	return out, nil
}

// close is not optional: what a connection was asked to prepare keeps its file open, even after the
// connection is closed.
func (s statements) close() error {
	errs := make([]error, 0, len(s))
	for _, stmt := range s {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(errs...)
}
