package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// inner reads itself as a closed document wherever it stands.
type inner struct {
	Count uint32 `json:"count"`
}

func (i *inner) UnmarshalJSON(b []byte) error {
	type plain inner
	return Unmarshal(b, (*plain)(i))
}

type sample struct {
	Height uint64   `json:"height"`
	Data   []byte   `json:"data"`
	Text   string   `json:"text"`
	Inner  inner    `json:"inner"`
	Maybe  *inner   `json:"maybe"`
	List   []uint64 `json:"list"`
	Signed int64    `json:"signed"`
}

// Promise 37.
func TestADocumentIsReadInOneWayOnly(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"height":1,"height":1}`, "at /height: the member is named twice"},
		{`{"height":1,"h\u0065ight":2}`, "at /height: the member is named twice"},
		{`{"Height":1}`, "at /Height: unknown member"},
		{`{"HEIGHT":1,"height":2}`, "at /HEIGHT: unknown member"},
		{`{"li` + "\u017f" + `t":[]}`, "at /li\u017ft: unknown member"}, // folds to "list"
		{`{"other":1}`, "at /other: unknown member"},
		{`{"inner":{"count":1,"other":2}}`, "at /inner/other: unknown member"},
		{`{"inner":{"count":1,"count":2}}`, "at /inner/count: the member is named twice"},
		{`{"height":1} {}`, "something follows the document"},
		{`{"height":1}x`, "something follows the document"},
		{`{"height":1`, "the document is cut off"},
		{``, "the document is cut off"},
		{"\xef\xbb\xbf{}", "byte order mark"},
		{`{"height":null}`, "at /height: null in the place of a value"},
		{`{"data":null}`, "at /data: null in the place of a value"},
		{`{"list":null}`, "at /list: null in the place of a value"},
		{`{"list":[null]}`, "at /list/0: null in the place of a value"},
		{`{"inner":null}`, "at /inner: null in the place of a value"},
		{`null`, "null in the place of a value"},
		{`[]`, "want an object"},
		{`{"text":1}`, "at /text: want a string"},
		{`{"text":"` + "\xff" + `"}`, "invalid UTF-8"},
		{`{"text":"\ud800"}`, "surrogate"},
		{`{"height":9007199254740992}`, "at /height: want an integer from 0 to 9007199254740991"},
		{`{"height":18446744073709551616}`, "at /height: want an integer"},
		{`{"height":-1}`, "at /height: want an integer"},
		{`{"height":-0}`, "at /height: want an integer"},
		{`{"height":1.0}`, "at /height: want an integer"},
		{`{"height":1e2}`, "at /height: want an integer"},
		{`{"height":"1"}`, "at /height: want an integer"},
		{`{"height":01}`, "not JSON"},
		{`{"inner":{"count":4294967296}}`, "at /inner/count: "},
		{`{"inner":{"count":1.0}}`, "at /inner/count: "},
		{`{"inner":{"count":-0}}`, "at /inner/count: "},
		{`{"data":[1,2]}`, "at /data: want base64"},
		{`{"data":"AQI"}`, "at /data: want base64"},
		{`{"data":"AQJ="}`, "at /data: want base64"}, // stray bits
		{`{"data":"AQ\nI="}`, "at /data: want base64"},
		{`{"data":"AQI=\r\n"}`, "at /data: want base64"},
		{`{"data":"_-8="}`, "at /data: want base64"},
		{`{"data":"AQI= "}`, "at /data: want base64"},
	} {
		err := Unmarshal([]byte(c.in), &sample{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.in, err, c.want)
		}
		if _, ok := errors.AsType[*Error](err); err != nil && !ok {
			t.Errorf("%s: error %T", c.in, err)
		}
		if err != nil && (strings.Contains(err.Error(), "Go ") || strings.Contains(err.Error(), "sample")) {
			t.Errorf("%s: error %q names a type of this program", c.in, err)
		}
	}
	for _, c := range []struct {
		in   string
		want sample
	}{
		{`{}`, sample{}},
		{" {\"height\" : 9007199254740991 , \"signed\":-3}\n", sample{Height: MaxNumber, Signed: -3}},
		{`{"data":"AQI=","text":"\u0061\ud83d\ude00","list":[0]}`, sample{Data: []byte{1, 2}, Text: "a\U0001f600", List: []uint64{0}}},
		{`{"data":"","maybe":null,"inner":{"count":4294967295}}`, sample{Data: []byte{}, Inner: inner{1<<32 - 1}}},
	} {
		var got sample
		if err := Unmarshal([]byte(c.in), &got); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
}

func TestAnAnswerMayHoldMore(t *testing.T) {
	var got sample
	if err := UnmarshalAnswer([]byte(`{"height":3,"Height":4,"new":{"x":[null]},"maybe":null}`), &got); err != nil || got.Height != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, in := range []string{
		`{"height":3,"height":3}`, `{"inner":{"count":1,"new":2}}`, `{"height":1.5}`, `{"data":"AQJ="}`, `{} {}`, "\xef\xbb\xbf{}",
		`{"new":{"a":1,"a":2}}`, `{"list":null}`,
	} {
		if err := UnmarshalAnswer([]byte(in), &sample{}); err == nil {
			t.Errorf("%s is taken", in)
		}
	}
}

// Promise 37.
func TestADocumentIsBounded(t *testing.T) {
	if err := Read(strings.NewReader(`{"height":3}`), 12, &sample{}); err != nil {
		t.Error(err)
	}
	if err := Read(strings.NewReader(`{"height":3} `), 12, &sample{}); err == nil || err.Error() != "longer than 12 bytes" {
		t.Error(err)
	}
	if err := Unmarshal([]byte(strings.Repeat("[", 1<<20)), &sample{}); err == nil {
		t.Error("a deep document is taken")
	}
}

// FuzzUnmarshal holds that what is taken is taken by the standard library too, as the same value,
// and is read again as the same from what is written of it.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"height":9007199254740991,"data":"AQI=","text":"\u0061","list":[0],"maybe":{"count":1},"signed":-1}`))
	f.Add([]byte(`{"height":1,"Height":2}`))
	f.Add([]byte(`{"data":"AQ\nI="}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var got sample
		if err := Unmarshal(in, &got); err != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(in))
		d.DisallowUnknownFields()
		var other sample
		if err := d.Decode(&other); err != nil || !reflect.DeepEqual(got, other) {
			t.Fatalf("%q is read as %+v, by encoding/json as %+v: %v", in, got, other, err)
		}
		var answer sample
		if err := UnmarshalAnswer(in, &answer); err != nil || !reflect.DeepEqual(got, answer) {
			t.Fatalf("%q is read as %+v, as an answer %+v: %v", in, got, answer, err)
		}
		if got.Height > MaxNumber {
			t.Fatalf("height %d", got.Height)
		}
	})
}
