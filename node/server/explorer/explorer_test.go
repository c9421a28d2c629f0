package explorer

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// get asks for a path as the server does, and fails the test unless there is such a file.
func get(t *testing.T, method, path string, header http.Header) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	r.Header = header
	w := httptest.NewRecorder()
	if !Serve(w, r) {
		t.Fatalf("%s %s: there is no such file", method, path)
	}
	return w.Result() //nolint:bodyclose // of a recorder
}

func content(t *testing.T, r io.Reader) string {
	t.Helper()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

var referenced = regexp.MustCompile(`(?:src|href)="\./([^"]+)"`)

func TestThePageNamesOnlyFilesThatAreServed(t *testing.T) {
	index := get(t, http.MethodGet, "/", nil)
	html := content(t, index.Body)
	if index.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("the page is of type %s", index.Header.Get("Content-Type"))
	}
	files := referenced.FindAllStringSubmatch(html, -1)
	if len(files) != 3 {
		t.Fatalf("the page names %d files, want icon, style and script: %s", len(files), html)
	}
	for _, f := range files {
		r := get(t, http.MethodGet, "/"+f[1], nil)
		if content(t, r.Body) == "" || r.Header.Get("Content-Type") == "application/octet-stream" {
			t.Errorf("%s is empty, or of no known type", f[1])
		}
	}
	// All of it comes from this origin, and nothing is in the page itself that the policy forbids.
	if strings.Contains(html, "://") || strings.Contains(html, "<style") || strings.Contains(html, " style=") ||
		len(regexp.MustCompile(`<script[^>]*>[^<]`).FindAllString(html, -1)) > 0 {
		t.Errorf("the page has a foreign address, or style or script of its own: %s", html)
	}
}

func TestEachFileForbidsABrowserAllElse(t *testing.T) {
	for name := range assets() {
		h := get(t, http.MethodGet, name, nil).Header
		for field, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache", "Vary": "Accept-Encoding",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := h.Get(field); got != want {
				t.Errorf("%s: %s is %q, want %q", name, field, got, want)
			}
		}
		directives := map[string]string{}
		for d := range strings.SplitSeq(h.Get("Content-Security-Policy"), ";") {
			key, value, _ := strings.Cut(strings.TrimSpace(d), " ")
			directives[key] = value
		}
		for directive, want := range map[string]string{
			"default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'", "connect-src": "'self'",
			"base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'", "require-trusted-types-for": "'script'",
			"trusted-types": "'none'",
		} {
			if directives[directive] != want {
				t.Errorf("%s: the policy has %s %q, want %q", name, directive, directives[directive], want)
			}
			delete(directives, directive)
		}
		if len(directives) > 0 {
			t.Errorf("%s: the policy allows more: %v", name, directives)
		}
	}
}

func TestTheFilesAreSmall(t *testing.T) {
	size := 0
	for _, a := range assets() {
		size += len(a.zipped.bytes)
	}
	if size > 100_000 {
		t.Errorf("the page takes %d bytes compressed, want at most 100,000", size)
	}
}

func TestAFileIsCompressedForThoseWhoTakeIt(t *testing.T) {
	whole := content(t, get(t, http.MethodGet, "/explorer/app.js", nil).Body)
	for accept, zipped := range map[string]bool{
		"gzip": true, "gzip, deflate, br": true, "br;q=1.0, gzip;q=0.8": true, "*": true, "GZIP": true,
		"": false, "br": false, "gzip;q=0": false, "gzip;q=0.0, *": false, "identity": false, "gzip;q=x": false,
	} {
		r := get(t, http.MethodGet, "/explorer/app.js", http.Header{"Accept-Encoding": {accept}})
		body := content(t, r.Body)
		if r.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
			t.Errorf("%q: Content-Length %s, and %d bytes came", accept, r.Header.Get("Content-Length"), len(body))
		}
		if (r.Header.Get("Content-Encoding") == "gzip") != zipped {
			t.Errorf("%q: Content-Encoding %q", accept, r.Header.Get("Content-Encoding"))
			continue
		}
		if zipped {
			unzip, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			body = content(t, unzip)
		}
		if body != whole {
			t.Errorf("%q: another file came", accept)
		}
	}
}

func TestAFileIsSentOnce(t *testing.T) {
	for _, accept := range []string{"", "gzip"} {
		tag := get(t, http.MethodGet, "/", http.Header{"Accept-Encoding": {accept}}).Header.Get("ETag")
		if len(tag) < 20 || tag[0] != '"' {
			t.Errorf("ETag %s", tag)
		}
		for given, unchanged := range map[string]bool{
			tag: true, "W/" + tag: true, `"other", ` + tag: true, "*": true, `"other"`: false, "": false, strings.Trim(tag, `"`): false,
		} {
			r := get(t, http.MethodGet, "/", http.Header{"Accept-Encoding": {accept}, "If-None-Match": {given}})
			body := content(t, r.Body)
			if (r.StatusCode == http.StatusNotModified) != unchanged || unchanged == (body != "") {
				t.Errorf("If-None-Match %s: %d with %d bytes", given, r.StatusCode, len(body))
			}
			if r.Header.Get("ETag") != tag || r.Header.Get("Content-Security-Policy") != policy {
				t.Errorf("If-None-Match %s: the answer lacks its tag or its policy: %v", given, r.Header)
			}
		}
	}
}

func TestHeadIsGetWithoutTheFile(t *testing.T) {
	for name := range assets() {
		for _, accept := range []string{"", "gzip"} {
			header := http.Header{"Accept-Encoding": {accept}}
			whole, head := get(t, http.MethodGet, name, header), get(t, http.MethodHead, name, header)
			if content(t, head.Body) != "" || head.StatusCode != http.StatusOK {
				t.Errorf("HEAD %s: %d, with a body", name, head.StatusCode)
			}
			for field := range whole.Header {
				if whole.Header.Get(field) != head.Header.Get(field) {
					t.Errorf("HEAD %s: %s is %q, by GET %q", name, field, head.Header.Get(field), whole.Header.Get(field))
				}
			}
		}
	}
}

func TestNothingElseIsServed(t *testing.T) {
	for _, path := range []string{"/index.html", "/explorer/", "/explorer/x.js", "/explorer", "/page/index.html", "/explorer/../explorer.go"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://node/", nil)
		r.URL.Path = path
		if Serve(w, r) || w.Body.Len() > 0 || len(w.Header()) > 0 {
			t.Errorf("%s: %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
}
