package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/simulation"
)

// Forks of the simulator, with real keys, of every control that must fork: the command convicts at
// least 2t-n validators of each, and no others than the simulator, from the evidence and the
// genesis document alone. Evidence from after a change of the set needs the changes as well: see
// TestEvidenceConvictsAKeyThatHasLeft.
//
// Promise 7.
func TestEvidenceOfForksConvicts(t *testing.T) {
	for _, c := range simulation.Controls() {
		if !c.Convicts() || c.Options.Eras != nil || testing.Short() && c.Seeds > 1000 {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			r, _ := c.Found()
			o := c.Options
			o.Keys = true
			if r = simulation.Run(r.Seed, o); !errors.Is(r.Violation, simulation.ErrFork) {
				t.Fatalf("seed %d: %v, want a fork", r.Seed, r.Violation)
			}
			accused := map[chain.PublicKey]bool{}
			for _, e := range r.Evidence {
				accused[e.PublicKey] = true
			}
			dir := t.TempDir()
			write := func(name string, v any) string {
				b, err := json.Marshal(v)
				must(t, err)
				path := filepath.Join(dir, name)
				must(t, os.WriteFile(path, b, 0o600))
				return path
			}
			genesis := simulation.Genesis(o)
			out := succeeds(t, "evidence", "verify", write("evidence.json", r.Evidence), "--genesis", write("genesis.json", genesis))
			guilty := 0
			for i, v := range genesis.Validators {
				convicted := strings.Contains(out, fmt.Sprintf("validator %d (%s, %v) broke rule", i, v.Name, v.PublicKey))
				if convicted != accused[v.PublicKey] {
					t.Errorf("validator %d is accused: %v, convicted: %v:\n%s", i, accused[v.PublicKey], convicted, out)
				}
				if convicted {
					guilty++
				}
			}
			if guilty < 2*o.T-o.N {
				t.Errorf("seed %d: %d validators are convicted, want at least %d:\n%s", r.Seed, guilty, 2*o.T-o.N, out)
			}
		})
	}
}
