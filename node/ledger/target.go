package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/diseq/diseq/node/chain"
)

// ErrInForce is wrapped by the error about a target that the open set has come from.
var ErrInForce = errors.New("it is in force")

// CheckTarget returns the set that a target asks for. It fails if that set cannot follow the open
// one: an endorsement of it would be wasted.
func (s *Sets) CheckTarget(t *chain.Target) (*chain.NextSet, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	open := s.eras[len(s.eras)-1]
	same := t.Threshold == open.set.Threshold && slices.Equal(t.Validators, open.named.Validators)
	switch current := open.set.Generation; {
	case t.Follows < current && t.Follows+1 == current && same:
		return nil, fmt.Errorf("%w since height %d, as generation %d", ErrInForce, open.first, current)
	case t.Follows < current:
		return nil, fmt.Errorf("it follows generation %d, and generation %d is in force: it is an old one", t.Follows, current)
	case t.Follows > current:
		return nil, fmt.Errorf("it follows generation %d, and generation %d is in force here", t.Follows, current)
	}
	if err := t.Check(open.set); err != nil {
		return nil, err
	}
	next := t.Next(open.set.SynchronyDeltaMS)
	if err := next.Validate(); err != nil {
		return nil, err
	}
	return next, s.identities.Check(open.named, next)
}
