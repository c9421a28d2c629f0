package overview

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/diseq/diseq/client"
)

// A Source is what an overview asks a node; [client.Client] is one.
type Source interface {
	Status(ctx context.Context) (*client.Status, error)
	NextValidators(ctx context.Context) (*client.Validators, error)
	Headers(ctx context.Context, from uint64, limit int) (blocks []client.Block, next uint64, err error)
}

// A Watch looks at the nodes of a network again and again. One goroutine at a time uses it.
type Watch struct {
	urls    []string
	sources []Source
	memory  memory
	// patience is for one answer of a node.
	patience time.Duration
	now      func() time.Time
}

// patience is how long a look waits for an answer.
const patience = 2 * time.Second

// New returns a watch of nodes, each asked through the source of the same index.
func New(urls []string, sources []Source) *Watch {
	return &Watch{urls: urls, sources: sources, memory: memory{names: map[string]string{}}, patience: patience, now: time.Now}
}

// errSilent is the error about a node that does not answer in time.
var errSilent = errors.New("no answer within 2 seconds")

// Look asks all nodes at once. It takes seconds if one of them is silent.
func (w *Watch) Look(ctx context.Context) *Network {
	answers := make([]answer, len(w.urls))
	var asked sync.WaitGroup
	for i, url := range w.urls {
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, w.patience)
			defer cancel()
			s, err := w.sources[i].Status(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				err = errSilent
			}
			if err != nil {
				s = nil
			}
			answers[i] = answer{url, s, err}
		})
	}
	asked.Wait()
	now := w.now()
	if speaker := middle(answers); speaker != nil {
		for i := range answers {
			if answers[i].status == speaker {
				w.read(ctx, w.sources[i], speaker, now)
			}
		}
		w.memory.remember(answers, speaker, now)
	}
	return judge(answers, &w.memory, now)
}

// The blocks that one look reads, in pages: at the first look, and at most.
const (
	pageOf   = 100
	maxPages = 5
)

// read asks a node for the validators, when they have changed, and for the blocks since the last
// look. It asks again for the rest at the next one.
func (w *Watch) read(ctx context.Context, from Source, s *client.Status, now time.Time) {
	if s.Short() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	m := &w.memory
	begin := uint64(1)
	if s.Height > votesOf {
		begin = s.Height - votesOf + 1
	}
	first := m.begun.IsZero()
	if n := len(m.blocks); n > 0 && s.Height-min(s.Height, m.blocks[n-1].height) <= pageOf*maxPages {
		begin = m.blocks[n-1].height + 1
	}
	for range maxPages {
		if begin > s.Height {
			break
		}
		blocks, next, err := from.Headers(ctx, begin, pageOf)
		if err != nil || next <= begin {
			break
		}
		m.add(blocks, first, now)
		begin = next
	}
	if m.set == nil || m.set.Generation != s.Generation {
		if set, err := from.NextValidators(ctx); err == nil {
			m.set = set
		}
	}
}
