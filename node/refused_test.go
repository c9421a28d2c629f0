package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/diseq/diseq/internal/document/documenttest"
	"github.com/diseq/diseq/node/chain"
)

func TestRefusedFilesAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	samples := documenttest.Read(t, "chain/testdata/refused.json", "peers", "configuration")
	documenttest.Check(t, samples, func(s documenttest.Sample) error {
		if err := os.WriteFile(path, s.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if s.Kind == "peers" {
			_, err := LoadPeers(path, chain.PublicKey{})
			return err
		}
		_, err := LoadConfig(path)
		return err
	})
}
