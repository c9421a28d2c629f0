package nodeclient

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/diseq/diseq/node/chain"
)

// Fake is a Client for tests: it gives prepared answers, by the name of the node, with the identity
// checks of the real client. The zero value knows no node. Its methods may be called from any
// goroutine.
type Fake struct {
	mu       sync.Mutex
	statuses map[string]Status
	sets     map[string]Set
	changes  map[string][]Change
	genesis  map[string]*chain.Genesis
	errs     map[string]error
	asked    map[string]int
}

// Answer makes a node answer with the status. If chain id or public key are zero, the answer has
// those of the node that is asked; without validators it has threshold 1 of one validator.
func (f *Fake) Answer(name string, s Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	put(&f.statuses, name, s)
	delete(f.errs, name)
}

// AnswerSet makes a node answer with the set in force.
func (f *Fake) AnswerSet(name string, s Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	put(&f.sets, name, s)
}

// AnswerChanges makes a node answer with these changes, the first of generation 1.
func (f *Fake) AnswerChanges(name string, changes ...Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	put(&f.changes, name, changes)
}

// AnswerGenesis makes a node serve the genesis document.
func (f *Fake) AnswerGenesis(name string, g *chain.Genesis) {
	f.mu.Lock()
	defer f.mu.Unlock()
	put(&f.genesis, name, g)
}

// Fail makes every request to a node fail, until Answer is called for it again.
func (f *Fake) Fail(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	put(&f.errs, name, err)
}

// Asked returns the number of requests to a node.
func (f *Fake) Asked(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[name]
}

// Status implements Client.
func (f *Fake) Status(ctx context.Context, node Node) (*Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	put(&f.asked, node.Name, f.asked[node.Name]+1)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("fake %s: %w", node.Name, err)
	}
	if err := f.errs[node.Name]; err != nil {
		return nil, fmt.Errorf("fake %s: %w", node.Name, err)
	}
	s, ok := f.statuses[node.Name]
	if !ok {
		return nil, fmt.Errorf("fake %s: there is no answer", node.Name)
	}
	if s.ChainID == "" {
		s.ChainID = node.ChainID
	}
	if s.PublicKey == [32]byte{} {
		s.PublicKey = node.PublicKey
	}
	if s.Validators == 0 {
		s.Validators, s.Threshold = 1, 1
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("fake %s: %w", node.Name, err)
	}
	if err := s.verify(node); err != nil {
		return nil, fmt.Errorf("fake %s: %w", node.Name, err)
	}
	return &s, nil
}

// Validators implements Client.
func (f *Fake) Validators(ctx context.Context, node Node) (*Set, error) {
	if _, err := f.Status(ctx, node); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sets[node.Name]
	if !ok {
		return nil, fmt.Errorf("fake %s: there is no set", node.Name)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("fake %s: %w", node.Name, err)
	}
	return &s, nil
}

// Changes implements Client.
func (f *Fake) Changes(ctx context.Context, node Node, from uint32) ([]Change, error) {
	if _, err := f.Status(ctx, node); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	page := &changes{from: from}
	for _, c := range f.changes[node.Name] {
		if c.Next.Generation >= from && len(page.Changes) < MaxChanges {
			page.Changes = append(page.Changes, c)
		}
	}
	if err := page.check(); err != nil {
		return nil, fmt.Errorf("fake %s: %w", node.Name, err)
	}
	return page.Changes, nil
}

// Genesis implements Client.
func (f *Fake) Genesis(ctx context.Context, node Node) (*chain.Genesis, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := cmp.Or(ctx.Err(), f.errs[node.Name]); err != nil {
		return nil, fmt.Errorf("fake %s: %w", node.Name, err)
	}
	g := f.genesis[node.Name]
	if g == nil {
		return nil, fmt.Errorf("fake %s: there is no genesis document", node.Name)
	}
	return g, nil
}

func put[V any](m *map[string]V, name string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[name] = v
}
