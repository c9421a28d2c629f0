package server

import (
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// The media types of a submission on /v1, beside JSON.
const (
	octetStream = "application/octet-stream"
	batchStream = "application/vnd.diseq.batch"
)

// contentType returns the media type of a request's body, in lower case and without parameters; ""
// if there is none, or a malformed one.
//
// It refuses a header that says how the body is to be read, or under which condition, and that this
// server does not act on. Such a header changes what the request means: without its
// Content-Encoding, a compressed message would be ordered for ever as its compressed bytes. Every
// handler that reads a body calls it.
func contentType(w http.ResponseWriter, r *http.Request) (string, error) {
	if err := checkEncodings(w, r.Header); err != nil {
		return "", err
	}
	if r.Header.Get("Content-Range") != "" { // RFC 9110, section 14.5
		return "", &apiError{
			status: http.StatusBadRequest, code: "partial_content",
			message: "a part of a body (Content-Range) is not accepted: send the whole body",
		}
	}
	if r.Header.Get("If-Match") != "" { // RFC 9110, section 13.1.1
		return "", &apiError{
			status: http.StatusPreconditionFailed, code: "precondition_failed",
			message: "nothing here has an entity tag, so If-Match never holds: send the request without it",
		}
	}
	values := r.Header.Values("Content-Type")
	if len(values) > 1 {
		return "", unsupported(unsupportedMediaType, "%d Content-Type headers: send one", len(values))
	}
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return "", nil
	}
	for name, value := range parameters {
		switch {
		case name == "charset" && (strings.EqualFold(value, "utf-8") || strings.EqualFold(value, "us-ascii")):
		case name != "charset" && isJSON(mediaType): // none has a meaning (RFC 8259, section 11)
		default:
			return "", unsupported(unsupportedMediaType, "content type %s with %s=%q: the only parameter accepted is charset=utf-8",
				mediaType, name, value)
		}
	}
	return mediaType, nil
}

// checkEncodings refuses an encoded body. Content-Transfer-Encoding belongs to mail; a client that
// sends it means it.
func checkEncodings(w http.ResponseWriter, h http.Header) error {
	for name, accepted := range map[string][]string{
		"Content-Encoding":          {"", "identity"},
		"Content-Transfer-Encoding": {"", "identity", "binary", "8bit", "7bit"},
	} {
		for coding := range strings.SplitSeq(strings.Join(h.Values(name), ","), ",") {
			coding = strings.TrimSpace(coding)
			if !slices.Contains(accepted, strings.ToLower(coding)) {
				w.Header().Set("Accept-Encoding", "identity") // RFC 9110, section 12.5.3
				return unsupported("unsupported_encoding", "%s %q is not accepted: send the body as it is (identity)", name, coding)
			}
		}
	}
	return nil
}

func unsupported(code, format string, args ...any) *apiError {
	return &apiError{status: http.StatusUnsupportedMediaType, code: code, message: fmt.Sprintf(format, args...)}
}

func isJSON(mediaType string) bool {
	return mediaType == "application/json" || strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
}
