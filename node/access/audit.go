package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

const (
	// auditQueue is how many lines may wait to be written. A disk that hangs must not hang clients.
	auditQueue = 4096
	// auditRate and auditBurst bound the lines a second about requests without a client's name:
	// whoever may send them would otherwise fill the disk with refusals.
	auditRate  = 200
	auditBurst = 1000
)

// Record is an audit line: a request that was admitted or refused. It never has a credential.
type Record struct {
	Time time.Time `json:"time"`
	// Client is the client's name, "anonymous" without a credential, and empty for one whose
	// credential is wrong. Proof is how it proved to be itself, or tried to.
	Client  string `json:"client"`
	Proof   Proof  `json:"proof"`
	Address string `json:"address"`
	Route   string `json:"route"`
	// Status is that of the answer, Code the code of an error.
	Status int    `json:"status"`
	Code   string `json:"code,omitempty"`
	// Messages and Bytes are what was submitted and accepted, First is the id of the first message,
	// and IDs the SHA-256 over all ids, one after the other.
	Messages int    `json:"messages,omitempty"`
	Bytes    int    `json:"bytes,omitempty"`
	First    string `json:"first,omitempty"`
	IDs      string `json:"ids,omitempty"`
	// Omitted is how many lines about requests without a client's name were left out before this
	// one, Dropped how many lines of any kind.
	Omitted uint64 `json:"omitted,omitempty"`
	Dropped uint64 `json:"dropped,omitempty"`
}

// auditor writes audit lines.
type auditor struct {
	stderr  io.Writer
	log     *slog.Logger
	dropped prometheus.Counter
	lines   chan []byte
	done    chan struct{}

	mu       sync.Mutex
	to       Audit
	path     string // absolute, empty without a file
	closed   bool
	nameless *rate.Limiter
	omitted  uint64
	lost     uint64

	// file is the writer's alone.
	file *os.File
	open string
}

func newAuditor(stderr io.Writer, log *slog.Logger, dropped prometheus.Counter) *auditor {
	a := &auditor{
		stderr: stderr, log: log, dropped: dropped, lines: make(chan []byte, auditQueue), done: make(chan struct{}),
		nameless: rate.NewLimiter(auditRate, auditBurst),
	}
	go a.write()
	return a
}

// set says where lines go from now on; path is the absolute one of the file.
func (a *auditor) set(to Audit, path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.to, a.path = to, path
}

// wanted reports whether lines go anywhere.
func (a *auditor) wanted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.to.Stderr || a.path != ""
}

// add queues a line.
func (a *auditor) add(r Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || !a.to.Stderr && a.path == "" {
		return
	}
	if (r.Client == "" || r.Client == AnonymousName) && !a.nameless.Allow() {
		a.omitted++
		return
	}
	r.Omitted, r.Dropped = a.omitted, a.lost
	line, err := json.Marshal(r)
	if err != nil { // strings and numbers always marshal
		a.log.Error("audit line not written", "err", err)
		return
	}
	select {
	case a.lines <- append(line, '\n'):
		a.omitted, a.lost = 0, 0
	default:
		a.lost++
		a.dropped.Inc()
	}
}

// close writes what is queued.
func (a *auditor) close() {
	a.mu.Lock()
	closed := a.closed
	a.closed = true
	a.mu.Unlock()
	if !closed {
		close(a.lines)
	}
	<-a.done
}

// write is the goroutine that writes.
func (a *auditor) write() {
	defer close(a.done)
	failing := false
	for line := range a.lines {
		err := a.one(line)
		if err != nil {
			a.dropped.Inc()
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				a.log.Error("audit lines cannot be written: requests are served all the same", "err", err)
			} else {
				a.log.Info("audit lines are written again")
			}
		}
	}
	if a.file != nil {
		_ = a.file.Close() // each line was written
	}
}

func (a *auditor) one(line []byte) error {
	a.mu.Lock()
	to, path := a.to, a.path
	a.mu.Unlock()
	var errs []error
	if to.Stderr {
		_, err := a.stderr.Write(line)
		errs = append(errs, err)
	}
	if path != "" {
		err := a.reopen(path)
		if err == nil {
			_, err = a.file.Write(line)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// reopen opens the file, and again after somebody has moved it away.
func (a *auditor) reopen(path string) error {
	if a.file != nil && a.open == path {
		mine, err := a.file.Stat()
		there, errThere := os.Stat(path)
		if err == nil && errThere == nil && os.SameFile(mine, there) {
			return nil
		}
	}
	if a.file != nil {
		_ = a.file.Close() // each line was written
		a.file = nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("audit file: %w", err)
	}
	a.file, a.open = f, path
	return nil
}
