package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/simulation"
)

// Forks that a coalition brought about in the simulator, with real keys: the command convicts at least 2t-n validators of each, all of
// them Byzantine, from the evidence and the genesis document alone.
func TestEvidenceOfForksConvicts(t *testing.T) {
	for _, o := range []simulation.Options{
		{N: 4, T: 3, Byzantine: 2, Keys: true}, {N: 5, T: 3, Byzantine: 1, Keys: true}, {N: 7, T: 5, Byzantine: 3, Keys: true},
		// With the synchrony wait, and messages that take longer than its Delta.
		{N: 4, T: 3, Byzantine: 2, Delta: 100 * time.Millisecond, Lateness: 250, Keys: true},
	} {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			genesis, path := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "evidence.json")
			b, err := json.Marshal(simulation.Genesis(o))
			must(t, err)
			must(t, os.WriteFile(genesis, b, 0o600))
			forks := 0
			for seed := uint64(0); seed < 200 && forks < 3; seed++ {
				r := simulation.Run(seed, o)
				if !errors.Is(r.Violation, simulation.ErrFork) {
					continue
				}
				forks++
				b, err := json.Marshal(r.Evidence)
				must(t, err)
				must(t, os.WriteFile(path, b, 0o600))
				out := succeeds(t, "evidence", "verify", path, "--genesis", genesis)
				guilty := 0
				for i, v := range simulation.Genesis(o).Validators {
					if !strings.Contains(out, fmt.Sprintf("validator %d (%s, %v) broke rule", i, v.Name, v.PublicKey)) {
						continue
					}
					if guilty++; i >= o.Byzantine {
						t.Errorf("seed %d: honest validator %d is convicted:\n%s", seed, i, out)
					}
				}
				if guilty < 2*o.T-o.N {
					t.Errorf("seed %d: %d validators are convicted, want at least %d:\n%s", seed, guilty, 2*o.T-o.N, out)
				}
			}
			if forks == 0 {
				t.Error("no fork to judge in 200 seeds")
			}
		})
	}
}
