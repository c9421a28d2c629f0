// Package document reads JSON documents in one way only.
//
// A receipt, a piece of evidence or a genesis document is shown to many readers: this program, a
// browser, jq, a verifier in another language. Each of them must read the same. So [Unmarshal]
// refuses every document that two readers could read differently:
//
//   - a member that is named twice, or in other letters than the format says
//   - text that is not UTF-8, or that starts with a byte order mark
//   - base64 with line breaks or stray bits
//   - null in the place of a value
//   - a number with a fraction or an exponent, or beyond [MaxNumber]
//   - anything behind the document
//
// docs/protocol.md states these rules under "JSON documents".
//
// The package does not know what the members mean; ranges and forms are checked by the types that
// it fills.
package document

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxNumber is the largest number in a document: the largest integer that every JSON parser reads
// exactly (RFC 8259, section 6).
const MaxNumber = 1<<53 - 1

// Error says where in a document something is wrong, and what. It never names a type of Go: its
// readers write JSON.
type Error struct {
	// Path is the JSON pointer (RFC 6901) of the value, empty for the whole document.
	Path string
	// Reason starts in lower case and names what is wrong.
	Reason string

	cause error
}

// Error returns "at PATH: REASON".
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Reason
	}
	return "at " + e.Path + ": " + e.Reason
}

// Unwrap returns what the reading of a value failed with, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Unmarshal reads the whole of b as one document. A member that v has no field for is refused.
func Unmarshal(b []byte, v any) error { return unmarshal(b, v, closed) }

// UnmarshalAnswer reads what a node answers, which newer nodes may add members to: members that v
// has no field for are ignored. Types that read themselves by Unmarshal stay closed within it.
func UnmarshalAnswer(b []byte, v any) error { return unmarshal(b, v, open) }

// Read reads all of r, at most limit bytes, as one document.
func Read(r io.Reader, limit int64, v any) error {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return err
	}
	if int64(len(b)) > limit {
		return &Error{Reason: fmt.Sprintf("longer than %d bytes", limit)}
	}
	return Unmarshal(b, v)
}

var (
	open   = json.WithUnmarshalers(json.UnmarshalFromFunc(value))
	closed = json.JoinOptions(open, json.RejectUnknownMembers(true))
)

var byteOrderMark = []byte("\xef\xbb\xbf")

func unmarshal(b []byte, v any, options json.Options) error {
	if bytes.HasPrefix(b, byteOrderMark) {
		return &Error{Reason: "starts with a byte order mark: save it as UTF-8 without one"}
	}
	if err := json.Unmarshal(b, v, options); err != nil {
		return explain(b, err)
	}
	return nil
}

var (
	errNull   = errors.New("null in the place of a value")
	errNumber = fmt.Errorf("want an integer from 0 to %d, without fraction and exponent", uint64(MaxNumber))
	errBase64 = errors.New("want base64 as RFC 4648 has it in section 4: padded, without line breaks and stray bits")
)

// value refuses null for everything but a pointer. It reads the two kinds of values that the
// library takes more leniently, and leaves all others to it.
func value(d *jsontext.Decoder, v any) error {
	if d.PeekKind() == 'n' && reflect.TypeOf(v).Elem().Kind() != reflect.Pointer {
		return errNull
	}
	switch v := v.(type) {
	case *uint64:
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(token.String(), 10, 64)
		if token.Kind() != '0' || err != nil || n > MaxNumber {
			return errNumber
		}
		*v = n
		return nil
	case *[]byte:
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		text := token.String()
		if token.Kind() != '"' || strings.ContainsAny(text, "\r\n") {
			return errBase64
		}
		data, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return errBase64
		}
		*v = data
		return nil
	}
	return errors.ErrUnsupported
}

var textReader = reflect.TypeFor[encoding.TextUnmarshaler]()

// explain says what is wrong in the words of the document.
func explain(b []byte, err error) error {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntactic):
		reason := syntactic.Err.Error()
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			return &Error{Path: string(syntactic.JSONPointer), Reason: "the member is named twice"}
		case errors.Is(err, io.ErrUnexpectedEOF):
			reason = "the document is cut off"
		case jsontext.Value(b[:min(syntactic.ByteOffset, int64(len(b)))]).IsValid():
			return &Error{Reason: "something follows the document"}
		}
		return &Error{Reason: fmt.Sprintf("not JSON: %s after %d bytes", reason, syntactic.ByteOffset)}
	case errors.As(err, &semantic):
		path := string(semantic.JSONPointer)
		if inner, ok := errors.AsType[*Error](semantic.Err); ok {
			return &Error{Path: path + inner.Path, Reason: inner.Reason, cause: inner.cause}
		}
		switch {
		case errors.Is(err, json.ErrUnknownName):
			return &Error{Path: path, Reason: "unknown member"}
		case semantic.JSONKind != '"' && semantic.GoType != nil && reflect.PointerTo(semantic.GoType).Implements(textReader):
			return &Error{Path: path, Reason: "want a string"}
		case semantic.GoType != nil && (errors.Is(err, strconv.ErrSyntax) || errors.Is(err, strconv.ErrRange)):
			return &Error{Path: path, Reason: "want " + kindOf(semantic.GoType) + ", without fraction and exponent"}
		case semantic.Err != nil:
			return &Error{Path: path, Reason: semantic.Err.Error(), cause: semantic.Err}
		case semantic.GoType != nil:
			return &Error{Path: path, Reason: "want " + kindOf(semantic.GoType)}
		}
	}
	return err
}

// kindOf names what JSON has for a type of Go.
func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return kindOf(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "an array"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("an integer of %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("an integer from 0 to %d", uint64(1)<<t.Bits()-1)
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a string"
	}
}
