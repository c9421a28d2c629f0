// Package explorer serves the page that shows a chain in a browser. It is a fixed set of files,
// built from client/explorer by `make explorer` and embedded here. The page asks the node that
// served it, by the routes of /v1, and nobody else: the content security policy forbids the rest.
//
// The package knows nothing of the chain, and decides nothing about access: the files are the same
// for everybody, as those of a release are. The routes of /v1 ask who the client is.
package explorer

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed page
var page embed.FS

// policy lets the page load its own script, style and pictures, and talk to its own origin. Nothing
// is evaluated as code, no text becomes markup (Trusted Types), no other page may frame it, and
// forms lead nowhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Patterns are the routes of the page, for http.ServeMux.
func Patterns() []string { return []string{"GET /{$}", "GET /explorer/{file}"} }

// asset is one file, as it is and compressed.
type asset struct {
	contentType   string
	plain, zipped body
}

type body struct {
	bytes []byte
	// tag is its entity tag (RFC 9110, section 8.8.3): another one for each form of a file.
	tag string
}

// assets has the files by their paths in a URL. To compress them takes some milliseconds, so the
// first request does it, and not every program that links the package.
var assets = sync.OnceValue(func() map[string]*asset {
	out := map[string]*asset{}
	err := fs.WalkDir(page, "page", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := page.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		tag := hex.EncodeToString(sum[:16])
		zipped, err := compress(content)
		if err != nil {
			return err
		}
		out[strings.TrimPrefix(name, "page")] = &asset{
			contentType: typeOf(name), plain: body{content, `"` + tag + `"`}, zipped: body{zipped, `"` + tag + `-gzip"`},
		}
		return nil
	})
	if err != nil {
		panic(fmt.Errorf("files of the explorer: %w", err)) // they are part of the program
	}
	out["/"] = out["/index.html"]
	delete(out, "/index.html")
	return out
})

func compress(content []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// typeOf does not ask the machine's table of types, which differs from one to the next.
func typeOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return "application/octet-stream"
	}
}

// Serve answers a request to one of the Patterns, and returns false if there is no such file. The
// method is GET or HEAD.
//
// A browser may keep the files, and asks each time whether they are still the same: a node that is
// updated serves the new page at once, with the script that belongs to it.
func Serve(w http.ResponseWriter, r *http.Request) bool {
	a := assets()[r.URL.Path]
	if a == nil {
		return false
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", "Accept-Encoding")
	out := a.plain
	if takesGzip(r.Header) {
		out = a.zipped
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", out.tag)
	if unchanged(r.Header, a) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(out.bytes)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(out.bytes) // it fails if the client is gone
	}
	return true
}

// takesGzip reads Accept-Encoding (RFC 9110, section 12.5.3). A weight of zero is a refusal.
func takesGzip(h http.Header) bool {
	takes := false
	for coding := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, parameters, err := mime.ParseMediaType(coding)
		if err != nil || name != "gzip" && name != "*" {
			continue
		}
		weight, err := strconv.ParseFloat(parameters["q"], 64)
		wanted := parameters["q"] == "" || err == nil && weight > 0
		if name == "gzip" {
			return wanted
		}
		takes = wanted
	}
	return takes
}

// unchanged reads If-None-Match (RFC 9110, section 13.1.2): whether the client has the file in
// either form.
func unchanged(h http.Header, a *asset) bool {
	for tag := range strings.SplitSeq(strings.Join(h.Values("If-None-Match"), ","), ",") {
		switch tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag {
		case "*", a.plain.tag, a.zipped.tag:
			return true
		}
	}
	return false
}
