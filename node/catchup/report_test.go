package catchup

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lines are what a logger wrote, a line each.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// A node that is far behind says every ten seconds how far it is and how long the rest takes, and
// once that it has caught up.
func TestANodeThatCatchesUpSaysHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory("abcd")
		h.grow(300)
		log := make(lines, 1)
		n := start(t, h, &archive{}, false, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
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
			time.Sleep(reportInterval)
			synctest.Wait()
			said := ""
			select {
			case said = <-log:
			default:
			}
			if !strings.HasSuffix(said, step.said+"\n") && said != step.said {
				t.Errorf("at height %d it says %q, want %q", step.reach, said, step.said)
			}
		}
	})
}
