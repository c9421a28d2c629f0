package consensus

import "github.com/diseq/diseq/node/chain"

// Core is the state machine of one node. It is used by one goroutine at a time.
type Core struct{ cfg Config }

// New returns a Core that has not started a height. records are all that Persist asked for and that was not removed since.
func New(cfg Config, records []Record) (*Core, error) {
	_ = records
	return &Core{cfg: cfg}, cfg.validate()
}

// StartHeight begins a height: after New with the height above the last stored block, after Commit with the next one, or higher
// after catching up.
func (c *Core) StartHeight(p Height) ([]Action, error) { return nil, p.validate() }

// Screen looks at a bundle whose signatures have not been checked yet.
func (c *Core) Screen(from chain.PublicKey, b Bundle) (Bundle, []Action) { _ = from; return b, nil }

// Step takes an event in.
func (c *Core) Step(e Event) []Action { _ = e; return nil }
