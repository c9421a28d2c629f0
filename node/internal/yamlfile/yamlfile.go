// Package yamlfile reads the small YAML files that configure a node, as strictly as JSON documents
// are read: a misspelled field is an error, not a default.
package yamlfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	goyaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/internal/document"
)

// MaxBytes bounds a file.
const MaxBytes = 1 << 20

// Read reads a file of at most 1 MiB.
func Read(path string) (out []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if out, err = io.ReadAll(io.LimitReader(f, MaxBytes+1)); err != nil {
		return nil, err
	}
	if len(out) > MaxBytes {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, MaxBytes)
	}
	return out, nil
}

// Unmarshal reads one document of YAML as JSON documents are read: exact names, each once, in
// UTF-8 without a byte order mark, nothing behind, and values that every version of YAML reads
// alike.
func Unmarshal(raw []byte, v any) error {
	if !utf8.Valid(raw) || bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")) {
		return errors.New("want UTF-8 without a byte order mark")
	}
	text, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "))
	}
	documents := goyaml.NewDecoder(bytes.NewReader(raw))
	var first, second goyaml.Node
	if err := documents.Decode(&first); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := documents.Decode(&second); !errors.Is(err, io.EOF) {
		return errors.New("a second document follows the first")
	}
	if err := checkNotation(&first); err != nil {
		return err
	}
	if string(text) == "null" {
		return nil // nothing but comments
	}
	return document.Unmarshal(text, v)
}

// number is how JSON writes an integer that is not negative; -1 is for its reader to refuse.
var number = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// checkNotation refuses what the readers of YAML 1.1 and of YAML 1.2 take for different values:
// 020, 0x10, 1_000 and 1e3 as numbers, yes and off as booleans, dates, tags and merge keys.
func checkNotation(n *goyaml.Node) error {
	for _, child := range n.Content {
		if err := checkNotation(child); err != nil {
			return err
		}
	}
	if n.Kind == goyaml.ScalarNode && n.Style == 0 { // neither quoted nor tagged
		switch tag := n.ShortTag(); {
		case tag == "!!int" && !number.MatchString(n.Value), tag == "!!float":
			return fmt.Errorf("line %d: %s: write an integer with digits alone, or put the text in quotes", n.Line, n.Value)
		case tag == "!!bool" && n.Value != "true" && n.Value != "false", oldBools[strings.ToLower(n.Value)]:
			return fmt.Errorf("line %d: %s: write true or false, or put the text in quotes", n.Line, n.Value)
		case tag == "!!timestamp", tag == "!!merge":
			return fmt.Errorf("line %d: %s: put the text in quotes", n.Line, n.Value)
		}
	}
	if n.Style&goyaml.TaggedStyle != 0 {
		return fmt.Errorf("line %d: the tag %s is not accepted: leave it out", n.Line, n.Tag)
	}
	return nil
}

// oldBools are the words that YAML 1.1 takes for booleans and YAML 1.2 for strings.
var oldBools = map[string]bool{"y": true, "yes": true, "n": true, "no": true, "on": true, "off": true}

// Bytes is a number of bytes: in YAML a number, or a string with one of the suffixes Ki, Mi, Gi, k,
// M, G.
type Bytes int64

var byteSuffixes = []struct {
	suffix string
	factor int64
}{{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}}

// UnmarshalJSON reads a number or a string with a suffix.
func (b *Bytes) UnmarshalJSON(in []byte) error {
	text := strings.Trim(string(in), `"`)
	digits, factor := text, int64(1)
	for _, s := range byteSuffixes {
		if d, ok := strings.CutSuffix(text, s.suffix); ok {
			digits, factor = d, s.factor
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return fmt.Errorf("%s is not a number of bytes: want one such as 1048576 or \"256Mi\"", in)
	}
	*b = Bytes(n * factor)
	return nil
}

// MarshalJSON writes the number, with a suffix if it is a whole number of MiB.
func (b Bytes) MarshalJSON() ([]byte, error) {
	if b > 0 && b%(1<<20) == 0 {
		return json.Marshal(strconv.FormatInt(int64(b>>20), 10) + "Mi")
	}
	return json.Marshal(int64(b))
}

// Duration is a time: in YAML a string such as 10s or 1m30s.
type Duration time.Duration

// UnmarshalJSON reads a string as time.ParseDuration does.
func (d *Duration) UnmarshalJSON(in []byte) error {
	var text string
	if err := json.Unmarshal(in, &text); err != nil {
		return fmt.Errorf("%s is not a time: want one such as 10s or 1m30s", in)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a time: want one such as 10s or 1m30s", text)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalJSON writes the string.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }
