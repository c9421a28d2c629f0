package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// scanner reads JSON (RFC 8259) without reflection: requests are the hot path, and the clients of
// the proof of concept know the wording and the positions of its framework's errors (serde_json's),
// which encoding/json does not give. It never recurses and allocates no more than its input is
// long.
type scanner struct {
	b []byte
	i int
}

// jsonError is what is wrong with a document: its syntax, or, if data is set, a value of the wrong
// kind.
type jsonError struct {
	data         bool
	path, what   string
	line, column int
}

func (e *jsonError) Error() string {
	text := fmt.Sprintf("%s at line %d column %d", e.what, e.line, e.column)
	if e.path != "" {
		text = e.path + ": " + text
	}
	return text
}

// within puts path before the error, unless it has one.
func within(err error, path string) error {
	if e, ok := err.(*jsonError); ok && e.path == "" {
		e.path = path
	}
	return err
}

func (s *scanner) errorAt(i int, data bool, what string) *jsonError {
	start := bytes.LastIndexByte(s.b[:i], '\n') + 1
	return &jsonError{data: data, what: what, line: 1 + bytes.Count(s.b[:start], []byte{'\n'}), column: i - start}
}

// syntax is an error at the byte just read, next one at the byte about to be read.
func (s *scanner) syntax(what string) error { return s.errorAt(s.i, false, what) }

func (s *scanner) next(what string) error { return s.errorAt(min(len(s.b), s.i+1), false, what) }

// wrong is an error about a value that is JSON but not what is asked for.
func (s *scanner) wrong(format string, args ...any) error {
	return s.errorAt(s.i, true, fmt.Sprintf(format, args...))
}

// peek skips white space and returns the next byte, 0 at the end (no byte 0 is valid in JSON).
func (s *scanner) peek() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) atEnd() bool { return s.i >= len(s.b) }

// unexpectedByte is an error about c, the next byte: its absence, or what.
func (s *scanner) unexpectedByte(end, what string) error {
	if s.atEnd() {
		return s.next("EOF while parsing " + end)
	}
	return s.next(what)
}

// end checks that only white space is left.
func (s *scanner) end() error {
	if s.peek(); !s.atEnd() {
		return s.next("trailing characters")
	}
	return nil
}

// separator reads what stands before an element: nothing before the first, a comma before the
// others. It returns false at the closing byte, which it reads.
func (s *scanner) separator(first bool, closing byte, end string) (bool, error) {
	c := s.peek()
	switch {
	case c == closing:
		s.i++
		return false, nil
	case s.atEnd():
		return false, s.next("EOF while parsing " + end)
	case first:
		return true, nil
	case c != ',':
		return false, s.next("expected `,` or `" + string(closing) + "`")
	}
	s.i++
	if s.peek() == closing {
		return false, s.next("trailing comma")
	}
	if s.atEnd() {
		return false, s.next("EOF while parsing a value")
	}
	return true, nil
}

// array calls element before each element of an array; expected says what was asked for if there is
// none.
func (s *scanner) array(expected string, element func(i int) error) error {
	if s.peek() != '[' {
		return s.unexpected(expected)
	}
	s.i++
	for i := 0; ; i++ {
		more, err := s.separator(i == 0, ']', "a list")
		if err != nil || !more {
			return err
		}
		if err := element(i); err != nil {
			return err
		}
	}
}

// object calls field before the value of each key.
func (s *scanner) object(expected string, field func(key string) error) error {
	if s.peek() != '{' {
		return s.unexpected(expected)
	}
	s.i++
	for first := true; ; first = false {
		more, err := s.separator(first, '}', "an object")
		if err != nil || !more {
			return err
		}
		key, err := s.key()
		if err != nil {
			return err
		}
		if err := field(string(key)); err != nil {
			return err
		}
	}
}

// key reads a key and its colon.
func (s *scanner) key() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.next("key must be a string")
	}
	key, err := s.quoted()
	if err != nil {
		return nil, err
	}
	if s.peek() != ':' {
		return nil, s.unexpectedByte("an object", "expected `:`")
	}
	s.i++
	return key, nil
}

// str reads a string.
func (s *scanner) str(expected string) ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.unexpected(expected)
	}
	return s.quoted()
}

// quoted reads a string whose opening quote is next. Without escapes it aliases the input.
func (s *scanner) quoted() ([]byte, error) {
	open := s.i
	s.i++
	escaped := false
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.unquote(s.b[open:s.i], escaped)
		case c == '\\':
			escaped = true
			s.i++
		case c < 0x20:
			s.i++
			return nil, s.syntax(`control character (\u0000-\u001F) found while parsing a string`)
		}
	}
	s.i = len(s.b)
	return nil, s.syntax("EOF while parsing a string")
}

func (s *scanner) unquote(quoted []byte, escaped bool) ([]byte, error) {
	inner := quoted[1 : len(quoted)-1]
	if !utf8.Valid(inner) {
		return nil, s.syntax("invalid unicode code point")
	}
	if !escaped {
		return inner, nil
	}
	var out string
	if err := json.Unmarshal(quoted, &out); err != nil {
		return nil, s.syntax("invalid escape")
	}
	return []byte(out), nil
}

// number reads a number and returns its text; integer is false if it has a fraction or an exponent.
func (s *scanner) number() (text []byte, integer bool, err error) {
	start := s.i
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	first := s.i
	if err := s.digits(); err != nil {
		return nil, false, err
	}
	if s.b[first] == '0' && s.i > first+1 {
		s.i = first + 1
		return nil, false, s.next("invalid number")
	}
	integer = true
	if s.i < len(s.b) && s.b[s.i] == '.' {
		integer = false
		s.i++
		if err := s.digits(); err != nil {
			return nil, false, err
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		integer = false
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if err := s.digits(); err != nil {
			return nil, false, err
		}
	}
	return s.b[start:s.i], integer, nil
}

func (s *scanner) digits() error {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	if s.i == start {
		return s.unexpectedByte("a value", "invalid number")
	}
	return nil
}

// uint reads an unsigned integer of at most limit; kind is what it is called in errors.
func (s *scanner) uint(limit uint64, kind string) (uint64, error) {
	c := s.peek()
	if c != '-' && (c < '0' || '9' < c) {
		return 0, s.unexpected(kind)
	}
	text, integer, err := s.number()
	if err != nil {
		return 0, err
	}
	if integer && c != '-' {
		// Most numbers are bytes: those need no strconv.
		if len(text) <= 3 {
			v := uint64(0)
			for _, d := range text {
				v = v*10 + uint64(d-'0')
			}
			if v <= limit {
				return v, nil
			}
		} else if v, err := strconv.ParseUint(string(text), 10, 64); err == nil && v <= limit {
			return v, nil
		}
	}
	described, isInteger, err := s.describe(text, integer)
	if err != nil {
		return 0, err
	}
	if isInteger {
		return 0, s.wrong("invalid value: %s, expected %s", described, kind)
	}
	return 0, s.wrong("invalid type: %s, expected %s", described, kind)
}

// describe names a number as errors do: an integer of 64 bits, else a floating point number.
func (s *scanner) describe(text []byte, integer bool) (described string, isInteger bool, err error) {
	if integer {
		if v, err := strconv.ParseUint(string(text), 10, 64); err == nil {
			return fmt.Sprintf("integer `%d`", v), true, nil
		}
		if v, err := strconv.ParseInt(string(text), 10, 64); err == nil && v != 0 {
			return fmt.Sprintf("integer `%d`", v), true, nil
		}
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return "", false, s.syntax("number out of range")
	}
	out := strings.Replace(strconv.FormatFloat(v, 'g', -1, 64), "e+", "e", 1)
	if !strings.ContainsAny(out, ".e") {
		out += ".0"
	}
	return "floating point `" + out + "`", false, nil
}

// unexpected reads a scalar that stands where expected should, and says so; or says what is wrong
// with the syntax there.
func (s *scanner) unexpected(expected string) error {
	found := ""
	switch c := s.peek(); {
	case c == '[':
		found = "sequence"
	case c == '{':
		found = "map"
	case c == '"':
		text, err := s.quoted()
		if err != nil {
			return err
		}
		found = "string " + strconv.Quote(string(text[:min(len(text), 100)]))
	case c == '-' || '0' <= c && c <= '9':
		text, integer, err := s.number()
		if err != nil {
			return err
		}
		if found, _, err = s.describe(text, integer); err != nil {
			return err
		}
	case c == 't' || c == 'f' || c == 'n':
		if err := s.word(); err != nil {
			return err
		}
		found = map[byte]string{'t': "boolean `true`", 'f': "boolean `false`", 'n': "null"}[c]
	default:
		return s.unexpectedByte("a value", "expected value")
	}
	return s.wrong("invalid type: %s, expected %s", found, expected)
}

// word reads true, false or null, whichever starts with the next byte.
func (s *scanner) word() error {
	want := map[byte]string{'t': "true", 'f': "false", 'n': "null"}[s.b[s.i]]
	for _, c := range []byte(want) {
		if s.atEnd() {
			return s.syntax("EOF while parsing a value")
		}
		s.i++
		if s.b[s.i-1] != c {
			return s.syntax("expected ident")
		}
	}
	return nil
}

// skip reads any value. What is open is kept in a list, so that deep nesting costs a byte a level
// and no stack.
func (s *scanner) skip() error {
	var open []byte
	for {
		switch c := s.peek(); {
		case c == '[' || c == '{':
			s.i++
			open = append(open, c+2) // in ASCII the closing byte is two above the opening one
			more, err := s.enter(c+2, true)
			if err != nil {
				return err
			}
			if more {
				continue
			}
			open = open[:len(open)-1]
		case c == '"':
			if _, err := s.quoted(); err != nil {
				return err
			}
		case c == '-' || '0' <= c && c <= '9':
			if _, _, err := s.number(); err != nil {
				return err
			}
		case c == 't' || c == 'f' || c == 'n':
			if err := s.word(); err != nil {
				return err
			}
		default:
			return s.unexpectedByte("a value", "expected value")
		}
		// A value is read: close what ends here, until another element follows.
		for {
			if len(open) == 0 {
				return nil
			}
			more, err := s.enter(open[len(open)-1], false)
			if err != nil {
				return err
			}
			if more {
				break
			}
			open = open[:len(open)-1]
		}
	}
}

// enter goes to the next element of what closing ends, past its key; false if there is none.
func (s *scanner) enter(closing byte, first bool) (bool, error) {
	if closing == ']' {
		return s.separator(first, closing, "a list")
	}
	more, err := s.separator(first, closing, "an object")
	if err != nil || !more {
		return more, err
	}
	_, err = s.key()
	return true, err
}
