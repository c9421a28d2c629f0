package ledger

import "github.com/diseq/diseq/node/chain"

// CheckTarget returns the set that a target asks for. It fails if the set is no valid next one of
// the set that is open: whoever endorses it wastes the endorsement.
func (s *Sets) CheckTarget(t *chain.Target) (*chain.NextSet, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	open := s.eras[len(s.eras)-1]
	if err := t.Check(open.set); err != nil {
		return nil, err
	}
	next := t.Next(open.set.SynchronyDeltaMS)
	if err := next.Validate(); err != nil {
		return nil, err
	}
	return next, s.identities.Check(open.named, next)
}
