package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake makes messages final as soon as they are submitted. It refuses the second half of the third
// request, and loses the first message of the fifth.
type fake struct {
	mu       sync.Mutex
	requests int
	keys     map[key]bool
	final    chan []byte
}

// answersAfter is how long each request takes.
const answersAfter = 5 * time.Millisecond

func (f *fake) pids() []int { return []int{os.Getpid()} }
func (f *fake) stop()       {}

func (f *fake) submitter(int) (func(context.Context, [][]byte) (int, error), error) {
	return func(_ context.Context, messages [][]byte) (int, error) {
		time.Sleep(answersAfter)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.requests++
		taken := len(messages)
		if f.requests == 3 {
			taken /= 2
		}
		for i, m := range messages[:taken] {
			if f.keys[key(m[:keyBytes])] {
				return 0, errors.New("a message came twice")
			}
			f.keys[key(m[:keyBytes])] = true
			if f.requests != 5 || i > 0 {
				f.final <- bytes.Clone(m)
			}
		}
		return taken, nil
	}, nil
}

func (f *fake) follow(ctx context.Context, ready func(), seen func([]byte)) error {
	ready()
	seen([]byte("somebody else's"))
	for {
		select {
		case m := <-f.final:
			seen(m)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestALoadIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time passes when all wait
		f := &fake{keys: map[key]bool{}, final: make(chan []byte, 1<<20)}
		const batch, requests = 10, 100
		o, err := load{rate: 1000, batch: batch, size: 100, connections: 2, duration: time.Second, drain: time.Second}.run(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if f.requests < requests*8/10 || f.requests > requests+2 {
			t.Errorf("%d requests in a second, want about %d", f.requests, requests)
		}
		if o.sent != batch*f.requests || o.refused != batch/2 || o.taken != o.sent-batch/2 || o.lost != 1 || o.final != o.taken-1 {
			t.Errorf("%+v of %d requests", o, f.requests)
		}
		if o.perSecond <= 0 || o.p50 != answersAfter || o.p99 != answersAfter {
			t.Errorf("measured %+v", o)
		}
	})
}

func TestMessages(t *testing.T) {
	m := newMessages(3, 250)
	seen := map[key]bool{}
	for number := range uint64(100) {
		for i, k := range m.next(number) {
			if seen[k] || !bytes.HasPrefix(m.list[i], k[:]) || len(m.list[i]) != 250 || bytes.Count(m.list[i], []byte("=")) != 1 {
				t.Fatalf("request %d: %q", number, m.list[i])
			}
			seen[k] = true
		}
	}
}
