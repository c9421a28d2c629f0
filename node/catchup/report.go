package catchup

import (
	"context"
	"time"
)

const (
	// reportInterval is how often a node says how far it is, and reportFrom from how many heights
	// behind on. A lag of fewer is made up in less time.
	reportInterval = 10 * time.Second
	reportFrom     = 100
)

// Report writes a line to the log every ten seconds while this node is far behind: its height, how
// much is left and how long that takes at the speed of the last line. It ends with ctx.
func (c *Catchup) Report(ctx context.Context) {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	before, far := c.cfg.Ledger.Height(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		height, behind := c.cfg.Ledger.Height(), c.Behind()
		switch {
		case behind >= reportFrom:
			args := []any{"height", height, "behind", behind, "heights_per_second", (height - before) / uint64(reportInterval.Seconds())}
			if made := height - before; made > 0 {
				left := time.Duration(float64(behind) / float64(made) * float64(reportInterval))
				args = append(args, "left", left.Round(time.Second).String())
			}
			c.cfg.Logger.Info("catching up", args...)
		case far:
			c.cfg.Logger.Info("caught up", "height", height)
		}
		before, far = height, behind >= reportFrom
	}
}
