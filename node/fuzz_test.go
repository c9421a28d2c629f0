package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// FuzzLoadConfig reads any node.yaml: what is taken is valid and has absolute paths, and what it
// says, written as JSON, is read as the same.
//
// Promise 37.
func FuzzLoadConfig(f *testing.F) {
	defaults, err := json.Marshal(DefaultConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(defaults)
	f.Add([]byte("genesis: g.json\nlisten: {public: '127.0.0.1:1'}\nlimits: {maxPoolBytes: 64Mi, historyHeights: 2}\nlogLevel: debug\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("limits: {maxPoolBytes: \"9223372036854775807Gi\"}"))
	f.Add([]byte("logLevel: info\nlogLevel: debug"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		load := func(name string, content []byte) (Config, error) {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return LoadConfig(path)
		}
		c, err := load("node.yaml", content)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%q is taken, and not valid: %v", content, err)
		}
		for _, path := range []string{c.Genesis, c.Keys, c.Data, c.Peers} {
			if path != "" && !filepath.IsAbs(path) {
				t.Errorf("path %q of %q", path, content)
			}
		}
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := load("again.json", written)
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%s is read as %+v, want %+v: %v", written, again, c, err)
		}
	})
}
