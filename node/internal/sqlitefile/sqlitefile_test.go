package sqlitefile

import (
	"bytes"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sqlite3 "modernc.org/sqlite/lib"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var discard = slog.New(slog.DiscardHandler)

var testSchema = Schema{
	Application: 5, PageSize: 16384, WalkLimit: 1 << 20, Migrations: []string{"CREATE TABLE a (x INTEGER PRIMARY KEY, y BLOB)"},
}

var add = &Statement{"add", "INSERT INTO a (x, y) VALUES (?, ?)"}

func created(t testing.TB) *File {
	t.Helper()
	f := &File{Path: filepath.Join(t.TempDir(), "x.db"), Schema: &testSchema}
	must(t, f.Create(nil))
	return f
}

func writer(t testing.TB, f *File) *Writer {
	t.Helper()
	w, err := f.OpenWriter(discard)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

func count(t testing.TB, f *File) (n int) {
	t.Helper()
	db, err := f.OpenReading(1)
	must(t, err)
	must(t, db.QueryRow("SELECT count(*) FROM a").Scan(&n))
	must(t, db.Close())
	return n
}

// Promise 20.
func TestEveryConnectionOfAWriterIsFullySynchronous(t *testing.T) {
	w := writer(t, created(t))
	for name, conn := range map[string]*sql.Conn{"writer": w.conn, "checkpointer": w.points.conn} {
		var synchronous int
		var journal string
		must(t, conn.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&synchronous))
		must(t, conn.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&journal))
		if synchronous != 2 || journal != "wal" {
			t.Errorf("%s: synchronous %d, journal %s; want 2 (FULL), wal", name, synchronous, journal)
		}
	}
}

func TestAPragmaOfTheCallerOverridesThePackages(t *testing.T) {
	db, err := created(t).OpenWriting(1, Pragmas{"synchronous": "NORMAL"})
	must(t, err)
	var synchronous int
	must(t, db.QueryRow("PRAGMA synchronous").Scan(&synchronous))
	must(t, db.Close())
	if synchronous != 1 {
		t.Errorf("synchronous %d, want 1 (NORMAL)", synchronous)
	}
}

func TestAReadingConnectionDoesNotWrite(t *testing.T) {
	f := created(t)
	w := writer(t, f) // or there is no log to read
	_, err := w.Exec(add, 1, "")
	must(t, err)
	db, err := f.OpenReading(1)
	must(t, err)
	if _, err := db.Exec("DELETE FROM a"); err == nil {
		t.Error("a reading connection deleted rows")
	}
	must(t, db.Close())
	if n := count(t, f); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

func TestAFailedOperationIsUndoneAlone(t *testing.T) {
	f := created(t)
	w := writer(t, f)
	failure := errors.New("this one fails")
	must(t, w.Begin())
	for i, want := range []error{nil, failure, nil} {
		failed, err := w.Isolate(func() error {
			_, err := w.Exec(add, i, "")
			return errors.Join(err, want)
		})
		must(t, err)
		if !errors.Is(failed, want) {
			t.Errorf("operation %d: %v, want %v", i, failed, want)
		}
	}
	must(t, w.Commit(0))
	if n := count(t, f); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	must(t, w.Begin())
	_, err := w.Exec(add, 7, "")
	must(t, err)
	must(t, w.Rollback())
	must(t, w.Rollback()) // none is open any more
	if n := count(t, f); n != 2 {
		t.Errorf("%d rows after a rollback, want 2", n)
	}
}

func TestACreatedFileIsWholeAndPrivate(t *testing.T) {
	f := &File{Path: filepath.Join(t.TempDir(), "x.db"), Schema: &testSchema}
	must(t, os.WriteFile(f.Path+".new", []byte("half of an earlier attempt"), 0o600))
	failure := errors.New("fill fails")
	if err := f.Create(func(*sql.Tx) error { return failure }); !errors.Is(err, failure) {
		t.Fatalf("create: %v, want %v", err, failure)
	}
	if exists, err := f.Exists(); exists || err != nil {
		t.Fatalf("a file is there after a failed creation: %v, %v", exists, err)
	}
	must(t, f.Create(func(tx *sql.Tx) error { _, err := tx.Exec("INSERT INTO a (x) VALUES (3)"); return err }))
	if err := f.Create(nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("created twice: %v", err)
	}
	info, err := os.Stat(f.Path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
	version, err := f.Inspect(func(db *sql.DB) error {
		var size int
		if err := db.QueryRow("PRAGMA page_size").Scan(&size); err != nil || size != testSchema.PageSize {
			t.Errorf("pages of %d bytes, want %d: %v", size, testSchema.PageSize, err)
		}
		var x int
		if err := db.QueryRow("SELECT x FROM a").Scan(&x); err != nil || x != 3 {
			t.Errorf("x = %d, %v", x, err)
		}
		return nil
	})
	must(t, err)
	if version != 1 {
		t.Errorf("version %d, want 1", version)
	}
	must(t, f.Remove())
	must(t, f.Remove())
	if entries, err := os.ReadDir(filepath.Dir(f.Path)); err != nil || len(entries) != 0 {
		t.Errorf("left after Remove: %v, %v", entries, err)
	}
}

func TestAnOlderSchemaIsTakenToTheNewest(t *testing.T) {
	newest := Schema{Application: 5, PageSize: 4096, Migrations: []string{"CREATE TABLE a (x INTEGER)", "ALTER TABLE a ADD COLUMN y INTEGER DEFAULT 7"}}
	first := newest
	first.Migrations = newest.Migrations[:1]
	path := filepath.Join(t.TempDir(), "x.db")
	older, f := &File{path, &first}, &File{path, &newest}
	must(t, older.Create(func(tx *sql.Tx) error { _, err := tx.Exec("INSERT INTO a VALUES (1)"); return err }))
	version, err := f.Inspect(func(*sql.DB) error { return nil })
	must(t, err)
	if version != 1 {
		t.Fatalf("version %d, want 1", version)
	}
	must(t, f.Upgrade(version))
	version, err = f.Inspect(func(db *sql.DB) error {
		var y int
		if err := db.QueryRow("SELECT y FROM a").Scan(&y); err != nil || y != 7 {
			t.Errorf("y = %d, %v", y, err)
		}
		return nil
	})
	must(t, err)
	if version != 2 {
		t.Errorf("version %d after the migration, want 2", version)
	}
	if _, err := older.Inspect(func(*sql.DB) error { return nil }); !errors.Is(err, ErrNewerSchema) {
		t.Errorf("older program: %v", err)
	}
}

// Promise 21.
func TestARefusedFileKeepsEveryByte(t *testing.T) {
	other := testSchema
	other.Application = 6
	overwrite := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			copy(b[at:], bytes.Repeat([]byte("x"), 200))
			return b
		}
	}
	for name, tt := range map[string]struct {
		change func([]byte) []byte
		schema *Schema
		want   error
	}{
		"empty":                {func([]byte) []byte { return nil }, &testSchema, ErrCorrupt},
		"cut short":            {func(b []byte) []byte { return b[:len(b)-testSchema.PageSize] }, &testSchema, ErrCorrupt},
		"no database":          {overwrite(0), &testSchema, ErrCorrupt},
		"broken schema page":   {overwrite(100), &testSchema, ErrMalformed},
		"broken page":          {overwrite(testSchema.PageSize), &testSchema, ErrCorrupt},
		"another application":  {func(b []byte) []byte { return b }, &other, ErrCorrupt},
		"version 0":            {func(b []byte) []byte { copy(b[60:], "\x00\x00\x00\x00"); return b }, &testSchema, ErrCorrupt},
		"a newer version":      {func(b []byte) []byte { copy(b[60:], "\x00\x00\x00\x09"); return b }, &testSchema, ErrNewerSchema},
		"what check looks for": {func(b []byte) []byte { return b }, &testSchema, ErrWrongChain},
	} {
		t.Run(name, func(t *testing.T) {
			f := created(t)
			f.Schema = tt.schema
			b, err := os.ReadFile(f.Path)
			must(t, err)
			before := tt.change(b)
			must(t, os.WriteFile(f.Path, before, 0o600))
			_, err = f.Inspect(func(*sql.DB) error { return ErrWrongChain })
			if !errors.Is(err, tt.want) {
				t.Errorf("inspect: %v, want %v", err, tt.want)
			}
			if errors.Is(tt.want, ErrCorrupt) && !strings.Contains(err.Error(), "x.db") {
				t.Errorf("the error does not name the file: %v", err)
			}
			after, err := os.ReadFile(f.Path)
			must(t, err)
			if !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
			entries, err := os.ReadDir(filepath.Dir(f.Path))
			must(t, err)
			if len(entries) != 1 {
				t.Errorf("left beside the file: %v", entries)
			}
		})
	}
}

func TestWhatIsNoRegularFileIsRefused(t *testing.T) {
	f := &File{Path: t.TempDir(), Schema: &testSchema}
	if _, err := f.Inspect(nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	f.Path = filepath.Join(f.Path, "none")
	if _, err := f.Inspect(nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// Promise 23.
func TestOneProcessHoldsALock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "LOCK")
	lock, err := Lock(path)
	must(t, err)
	if _, err := Lock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	must(t, lock.Close())
	again, err := Lock(path)
	must(t, err)
	must(t, again.Close())
}

// Result codes as SQLite documents them: https://sqlite.org/rescode.html.
func TestResultCodesAreToldApart(t *testing.T) {
	f := created(t)
	for code, want := range map[int]error{
		sqlite3.SQLITE_CORRUPT: ErrMalformed, sqlite3.SQLITE_CORRUPT_INDEX: ErrMalformed, sqlite3.SQLITE_NOTADB: ErrMalformed,
		sqlite3.SQLITE_IOERR_SHORT_READ: ErrMalformed, sqlite3.SQLITE_IOERR_READ: ErrCorrupt, sqlite3.SQLITE_FULL: ErrDiskFull,
		sqlite3.SQLITE_BUSY: ErrLocked, sqlite3.SQLITE_LOCKED: ErrLocked, sqlite3.SQLITE_IOERR_FSYNC: nil, sqlite3.SQLITE_CONSTRAINT: nil,
	} {
		if got := f.sentinel(code); !errors.Is(got, want) || want == nil && got != nil {
			t.Errorf("code %d: %v, want %v", code, got, want)
		}
	}
	if !errors.Is(ErrMalformed, ErrCorrupt) {
		t.Error("a malformed file is not damaged")
	}
	w := writer(t, f)
	_, err := w.Exec(&Statement{"mistyped", "INSERT INTO b VALUES (1)"})
	if err == nil || !strings.Contains(err.Error(), "x.db: prepare mistyped") {
		t.Errorf("the error does not name file and operation: %v", err)
	}
}

func TestTheLogDoesNotGrowWithoutBound(t *testing.T) {
	// Where a machine is so busy that the checkpointer gets no turn while the writer gets many, one
	// try shows nothing.
	const tries = 5
	var largest int64
	for range tries {
		if largest = largestLog(t); largest <= 4*logSoft {
			return
		}
		t.Logf("the log reached %d bytes", largest)
	}
	t.Errorf("the log reached %d bytes, and %d times no less than its bound", largest, tries)
}

// largestLog returns how long the log of a file becomes under unbroken writing.
func largestLog(t *testing.T) (largest int64) {
	t.Helper()
	f := created(t)
	w := writer(t, f)
	w.points.hard = 1 << 20 // nothing has been written: the checkpointer is at rest
	row := make([]byte, 600_000)
	for n := range 60 { // 36 MB in all
		must(t, w.Begin())
		_, err := w.Exec(add, n, row)
		must(t, err)
		must(t, w.Commit(len(row)))
		_, log, err := f.Sizes()
		must(t, err)
		largest = max(largest, log)
	}
	return largest
}
