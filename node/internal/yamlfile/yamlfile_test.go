package yamlfile

import (
	"encoding/json"
	"testing"
)

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
