package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
)

// progress says how far the runs are: in one line of a terminal that changes, or in a line of a log
// every ten seconds.
type progress struct {
	to       io.Writer
	terminal bool
	every    time.Duration
	now      func() time.Time

	mu          sync.Mutex
	start, last time.Time
	at          *line
	done, ran0  uint64
	lines       map[*line]int
	promises    int
	seeds       uint64
}

func newProgress(to *os.File, lines []*line, seeds uint64) *progress {
	p := &progress{
		to: to, terminal: isatty.IsTerminal(to.Fd()), every: 10 * time.Second, now: time.Now, lines: make(map[*line]int), seeds: seeds,
	}
	if p.terminal {
		p.every = 200 * time.Millisecond
	}
	for i, l := range lines {
		p.lines[l] = i + 1
		if l.Want == nil {
			p.promises++
		}
	}
	p.start = p.now()
	p.last = p.start
	return p
}

func (p *progress) since() time.Duration { return p.now().Sub(p.start) }

// ran says that a line has had so many runs.
func (p *progress) ran(l *line, runs int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at != l {
		p.at, p.ran0 = l, p.done
	}
	p.done = p.ran0 + uint64(runs)
	now := p.now()
	if now.Sub(p.last) < p.every {
		return
	}
	p.last = now
	text := p.text(l, runs)
	if p.terminal {
		fmt.Fprintf(p.to, "\r\x1b[K%s", text)
	} else {
		fmt.Fprintln(p.to, text)
	}
}

// text is a line of progress. The time left is estimated from the time that the promises took so
// far; controls take little.
func (p *progress) text(l *line, runs int) string {
	of := p.seeds
	if l.Want != nil {
		of = l.Seeds
	}
	elapsed := p.since()
	rate := float64(p.done) / elapsed.Minutes()
	s := fmt.Sprintf("%d/%d %s: %d of %d seeds, %.0f runs/min", p.lines[l], len(p.lines), l.Name, runs, of, rate)
	if total := p.seeds * uint64(p.promises); l.Want == nil && total > p.done {
		left := time.Duration(float64(total-p.done) / rate * float64(time.Minute))
		s += fmt.Sprintf(", about %v left", left.Round(time.Second))
	}
	return s
}

// end clears the line of a terminal.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
