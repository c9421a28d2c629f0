package catchup

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A node that is far behind says every ten seconds how far it is and how long the rest takes, and
// once that it has caught up.
func TestANodeThatCatchesUpSaysHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("abcd")
		h.grow(300)
		n := start(t, h, &archive{}, false)
		go n.Report(t.Context())
		for _, validator := range "abcd" {
			n.Heard(public(validator), 301)
		}
		for _, step := range []struct {
			reach uint64
			said  string
		}{
			{0, `msg="catching up" height=0 behind=300 heights_per_second=0`},
			{100, `msg="catching up" height=100 behind=200 heights_per_second=10 left=20s`},
			{300, `msg="caught up" height=300`},
			{300, ""},
		} {
			n.reach(t, h, step.reach)
			n.log.Reset()
			time.Sleep(reportInterval)
			synctest.Wait()
			if said := n.log.String(); !strings.Contains(said, step.said+"\n") && said != step.said {
				t.Errorf("at height %d it says %q, want %q", step.reach, said, step.said)
			}
		}
	})
}
