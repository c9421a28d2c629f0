package chain

// Bundle is a set of consensus messages that travel together, of one height or of several. The
// receiver handles the certificates first: proposals and votes rest on them.
type Bundle struct {
	Certificates []*Certificate
	Proposals    []*Proposal
	// Votes are of any kind; one of kind Propose is a leader's Statement without its block.
	Votes []Vote
}

// Empty reports whether b holds nothing.
func (b *Bundle) Empty() bool {
	return len(b.Certificates) == 0 && len(b.Proposals) == 0 && len(b.Votes) == 0
}
