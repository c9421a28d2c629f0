package e2e

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/oracle"
)

// A Ledger records the messages that clients submitted, and the answers.
type Ledger struct {
	*oracle.Ledger
	mu      sync.Mutex
	failed  int
	longest time.Duration // from the first attempt to acceptance

	stop func()
}

const (
	writeEvery = 100 * time.Millisecond
	// writers at once: when requests hang at a node that is gone, the others go on.
	writers = 16
	// answerWithin bounds one request: a node may have gone with it.
	answerWithin = 3 * time.Second
)

// Write submits messages through the Service, ten a second, until Stop or the end of the test. It
// submits a message again until it is accepted, as a client does. That is safe: equal bytes are one
// message.
func (n *Network) Write(label string) *Ledger {
	l := &Ledger{Ledger: oracle.NewLedger()}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	slots := make(chan struct{}, writers)
	running.Go(func() {
		tick := time.NewTicker(writeEvery)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			slots <- struct{}{}
			message := fmt.Appendf(nil, "%s/%s %s %d %d", n.Namespace, n.Name, label, i, time.Now().UnixNano())
			running.Go(func() {
				defer func() { <-slots }()
				l.submit(ctx, n, message)
			})
		}
	})
	l.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	n.tb.Cleanup(l.stop)
	return l
}

// submit tries until the message is accepted or the ledger is closed.
func (l *Ledger) submit(ctx context.Context, n *Network, message []byte) {
	begun := time.Now()
	l.Sent(chain.Message{Data: message}.ID())
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		// Stop does not cut off a request: without its answer the outcome would be unknown.
		request, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
		results, err := n.Service().Submit(request, message)
		cancel()
		l.mu.Lock()
		if err == nil {
			l.Accepted(results[0].ID, oracle.Acceptance{Sent: begun, Answered: time.Now()})
			l.longest = max(l.longest, time.Since(begun))
		} else {
			l.failed++
		}
		l.mu.Unlock()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Stop ends the writing and returns when no request is under way.
func (l *Ledger) Stop() { l.stop() }

// String sums up the ledger.
func (l *Ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	accepted, _ := l.Count()
	return fmt.Sprintf("%d messages accepted, %d requests tried again, the slowest accepted after %.1f s",
		accepted, l.failed, l.longest.Seconds())
}
