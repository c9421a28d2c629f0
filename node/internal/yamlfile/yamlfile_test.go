package yamlfile

import (
	"encoding/json"
	"testing"
)

// YAML has several notations, of which the readers of its versions 1.1 and 1.2 make different
// values: 020, 1_000, yes.
func TestAValueIsWrittenInOneWayOnly(t *testing.T) {
	for _, in := range []string{
		"count: 02000", "count: 0o2000", "count: 0x400", "count: 1_024", "count: 1024.0", "count: 1e3", "count: +1", "count: !!int '1'",
		"flag: yes", "flag: YES", "flag: On", "flag: True", "flag: y", "flag: !!bool true", "name: !foo v0", "name: !!binary djA=",
		"name: 2020-01-01", "yes: true", "<<: {count: 1}", "name: [off]",
	} {
		var v struct {
			Count uint32 `json:"count"`
			Flag  bool   `json:"flag"`
			Name  string `json:"name"`
		}
		if err := Unmarshal([]byte(in), &v); err == nil {
			t.Errorf("%s is read as %+v", in, v)
		}
	}
	for in, want := range map[string]uint32{
		"count: 0": 0, "count: 1024": 1024, `{"count":7,"flag":true,"name":"yes"}`: 7, "flag: false\nname: 'on'\ncount: 5": 5,
		"name: \"02000\"\ncount: 1": 1, "name: v0.example-1:80\ncount: &a 3": 3, "# nothing": 0, "": 0,
	} {
		var v struct {
			Count uint32 `json:"count"`
			Flag  bool   `json:"flag"`
			Name  string `json:"name"`
		}
		if err := Unmarshal([]byte(in), &v); err != nil || v.Count != want {
			t.Errorf("%s: %+v, %v", in, v, err)
		}
	}
}

func TestBytesHaveSuffixes(t *testing.T) {
	for in, want := range map[string]int64{`0`: 0, `17`: 17, `"17"`: 17, `"4Ki"`: 4096, `"256Mi"`: 256 << 20, `"1Gi"`: 1 << 30, `"3k"`: 3000, `"2M"`: 2e6, `"1G"`: 1e9} {
		var b Bytes
		if err := json.Unmarshal([]byte(in), &b); err != nil || int64(b) != want {
			t.Errorf("%s is %d, %v; want %d", in, b, err, want)
		}
	}
	for _, in := range []string{`-1`, `1.5`, `"Mi"`, `""`, `"1Ti"`, `"9223372036854775807Ki"`, `null`, `true`, `"-1Mi"`, `[1]`} {
		var b Bytes
		if err := json.Unmarshal([]byte(in), &b); err == nil && in != "null" {
			t.Errorf("%s is %d", in, b)
		}
	}
}
