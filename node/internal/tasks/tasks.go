// Package tasks runs the short work that the rooms of a node do beside their own goroutines: a
// fetch, an answer, a check. All of it ends with the node.
package tasks

import (
	"context"
	"sync"
)

// Group runs goroutines under one context. Its methods may be called from any goroutine.
type Group struct {
	ctx context.Context

	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

// New returns a Group whose goroutines run under ctx.
func New(ctx context.Context) *Group { return &Group{ctx: ctx} }

// Context returns the context that ends when the node stops.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f in a goroutine of its own, unless Wait has been called.
func (g *Group) Go(f func(ctx context.Context)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.wg.Go(func() { f(g.ctx) })
	}
}

// Wait waits for every goroutine to return. The caller has ended the context; Go starts nothing
// from now on.
func (g *Group) Wait() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.wg.Wait()
}
