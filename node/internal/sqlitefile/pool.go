package sqlitefile

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

type access string

const (
	readWrite access = "rw"
	create    access = "rwc"
	readOnly  access = "ro"
	// immutable promises SQLite that nobody writes. SQLite then creates no file beside the database.
	immutable access = "ro&immutable=1"
)

// always are the pragmas of every connection; a later one of the same name overrides them.
var always = []string{"busy_timeout(5000)", "trusted_schema(0)", "cell_size_check(1)", "synchronous(FULL)"}

// writing are the pragmas of a connection that writes. SQLite runs no checkpoint by itself; a log
// that grew beyond the limit is cut when it starts again.
var writing = []string{"journal_mode(WAL)", "wal_autocheckpoint(0)", "journal_size_limit(" + strconv.Itoa(logHard) + ")", "cache_size(-4096)"}

var reading = []string{"query_only(1)", "cache_size(-1024)"}

// OpenWriting opens at most limit connections that write. Pragmas override the package's own.
func (f *File) OpenWriting(limit int, pragmas ...string) (*sql.DB, error) {
	return f.pool(readWrite, limit, append(writing[:len(writing):len(writing)], pragmas...)...)
}

// OpenReading opens at most limit connections that cannot write. Pragmas override the package's
// own.
func (f *File) OpenReading(limit int, pragmas ...string) (*sql.DB, error) {
	return f.pool(readOnly, limit, append(reading[:len(reading):len(reading)], pragmas...)...)
}

func (f *File) pool(mode access, limit int, pragmas ...string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", f.source(mode, pragmas...))
	if err != nil {
		return nil, f.Explain("open", err)
	}
	db.SetMaxOpenConns(limit)
	db.SetMaxIdleConns(limit)
	return db, nil
}

// source returns the data source name.
func (f *File) source(mode access, pragmas ...string) string {
	// Without OmitHost SQLite would take the first part of a relative path for a host.
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(f.Path)}
	all := append(always[:len(always):len(always)], pragmas...)
	return u.String() + "?mode=" + string(mode) + "&_pragma=" + strings.Join(all, "&_pragma=")
}
