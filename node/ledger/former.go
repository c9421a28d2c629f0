package ledger

import "github.com/diseq/diseq/node/chain"

// Former returns the keys of all that were in a set and are in the open one no more.
func (s *Sets) Former() (keys []chain.PublicKey) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	open := s.eras[len(s.eras)-1].set
	for key := range s.names {
		if open.Index(key) < 0 {
			keys = append(keys, key)
		}
	}
	return keys
}
