package server

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// dataField is the member of a message that has its data.
const dataField = "data"

// jsonBody reads a JSON body (RFC 8259, UTF-8 only) value by value, without reflection: submissions
// are the hot path, and their errors name the place in the body.
type jsonBody struct{ *jsontext.Decoder }

// readJSON returns a reader of body. Members that are named twice are for its caller to refuse.
func readJSON(body []byte) jsonBody {
	return jsonBody{jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true))}
}

// jsonError says where in a body something is wrong, and why.
type jsonError struct {
	// wrongType is set if the value is JSON, but not of the kind that was asked for.
	wrongType bool
	// path is the JSON pointer (RFC 6901) of the value, empty for the whole body.
	path, reason string
}

// Error implements error.
func (e *jsonError) Error() string {
	if e.path == "" {
		return e.reason
	}
	return fmt.Sprintf("at %.200s: %s", e.path, e.reason)
}

// syntax is the error about a body that is not JSON; nil for a nil error.
func (b jsonBody) syntax(err error) error {
	if err == nil {
		return nil
	}
	if at, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return &jsonError{path: string(at.JSONPointer), reason: fmt.Sprintf("%v after byte %d", at.Err, at.ByteOffset)}
	}
	return &jsonError{reason: "unexpected EOF"}
}

// wrong is the error about the value read last, which is JSON.
func (b jsonBody) wrong(format string, args ...any) error {
	return &jsonError{wrongType: true, path: string(b.StackPointer()), reason: fmt.Sprintf(format, args...)}
}

// value reads a value of a kind.
func (b jsonBody) value(kind jsontext.Kind, want string) (jsontext.Value, error) {
	v, err := b.ReadValue()
	if err != nil {
		return nil, b.syntax(err)
	}
	if got := v.Kind(); got != kind {
		return nil, b.wrong("%s in the place of %s", kinds[got], want)
	}
	return v, nil
}

// kinds names the kinds of values in errors.
var kinds = map[jsontext.Kind]string{
	'n': "null", 'f': "a boolean", 't': "a boolean", '"': "a string", '0': "a number", '{': "an object", '[': "an array",
}

// begin enters an object or an array.
func (b jsonBody) begin(kind jsontext.Kind) error {
	if b.PeekKind() != kind {
		_, err := b.value(kind, kinds[kind])
		return err
	}
	_, err := b.ReadToken()
	return b.syntax(err)
}

// members calls read before the value of each member of an object. The name is only valid until
// read reads on.
func (b jsonBody) members(read func(name []byte) error) error {
	if err := b.begin('{'); err != nil {
		return err
	}
	for b.PeekKind() != '}' {
		v, err := b.ReadValue()
		if err != nil {
			return b.syntax(err)
		}
		if err := read(unquote(v)); err != nil {
			return err
		}
	}
	_, err := b.ReadToken()
	return b.syntax(err)
}

// elements calls read before each element of an array.
func (b jsonBody) elements(read func(i int) error) error {
	if err := b.begin('['); err != nil {
		return err
	}
	for i := 0; b.PeekKind() != ']'; i++ {
		if err := read(i); err != nil {
			return err
		}
	}
	_, err := b.ReadToken()
	return b.syntax(err)
}

// unquote returns the text of a string. Without escapes it aliases the input.
func unquote(v jsontext.Value) []byte {
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1]
	}
	text, _ := jsontext.AppendUnquote(nil, v) // the decoder has checked it
	return text
}

// integer reads an integer from 0 to limit, without fraction and exponent.
func (b jsonBody) integer(limit uint64) (uint64, error) {
	v, err := b.value('0', "a number")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil || n > limit {
		return 0, b.wrong("%.40s, want an integer from 0 to %d", v, limit)
	}
	return n, nil
}

// base64 reads the data of the message at index (RFC 4648, section 4, with padding and without line
// breaks).
func (b jsonBody) base64(index int) ([]byte, error) {
	v, err := b.value('"', "a base64 string")
	if err != nil {
		return nil, err
	}
	text := unquote(v)
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(out, text)
	// one byte at a time: IndexAny takes as long as to decode
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		err = base64.CorruptInputError(i)
	}
	if i := bytes.IndexByte(text, '\r'); i >= 0 {
		err = base64.CorruptInputError(i)
	}
	if err != nil {
		return nil, badRequest("message %d: its data is not base64: %v", index, err)
	}
	return out[:n:n], nil
}

// end checks that only white space is left.
func (b jsonBody) end() error {
	if _, err := b.ReadToken(); !errors.Is(err, io.EOF) {
		return &jsonError{reason: fmt.Sprintf("trailing characters after byte %d", b.InputOffset())}
	}
	return nil
}
