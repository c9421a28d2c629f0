package sqlitefile

import (
	"database/sql"
	"maps"
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
	// immutable promises SQLite that nobody writes. SQLite then creates no file beside the
	// database.
	immutable access = "ro&immutable=1"
)

// always are the pragmas of every connection. The driver runs them in the order of their names.
var always = Pragmas{"busy_timeout": "5000", "trusted_schema": "0", "cell_size_check": "1", "synchronous": "FULL"}

// writing are the pragmas of a connection that writes. SQLite runs no checkpoint by itself; a log
// that grew beyond the limit is cut when it starts again.
var writing = Pragmas{
	"journal_mode": "WAL", "wal_autocheckpoint": "0", "journal_size_limit": strconv.Itoa(logHard), "cache_size": "-4096",
}

var reading = Pragmas{"query_only": "1", "cache_size": "-1024"}

// Pragmas are settings of a connection by their names (https://sqlite.org/pragma.html).
type Pragmas map[string]string

// OpenWriting opens at most limit connections that write. Pragmas override the package's own.
func (f *File) OpenWriting(limit int, pragmas Pragmas) (*sql.DB, error) {
	return f.pool(readWrite, limit, writing, pragmas)
}

// OpenReading opens at most limit connections that cannot write.
func (f *File) OpenReading(limit int) (*sql.DB, error) {
	return f.pool(readOnly, limit, reading, nil)
}

func (f *File) pool(mode access, limit int, pragmas ...Pragmas) (*sql.DB, error) {
	db, err := sql.Open("sqlite", f.source(mode, pragmas...))
	if err != nil {
		return nil, f.Explain("open", err)
	}
	db.SetMaxOpenConns(limit)
	db.SetMaxIdleConns(limit)
	return db, nil
}

// source returns the data source name.
func (f *File) source(mode access, pragmas ...Pragmas) string {
	all := maps.Clone(always)
	for _, p := range pragmas {
		maps.Copy(all, p)
	}
	// Without OmitHost SQLite would take the first part of a relative path for a host.
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(f.Path)}
	var out strings.Builder
	out.WriteString(u.String() + "?mode=" + string(mode))
	for name, value := range all {
		out.WriteString("&_pragma=" + name + "(" + value + ")")
	}
	return out.String()
}
