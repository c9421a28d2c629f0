package node

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/repair"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/server"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/node/trie"
)

// poolErrors returns the names of the errors that package mempool exports: variables named Err...
// and types named ...Error.
func poolErrors(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "mempool/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for _, name := range n.Names {
				if strings.HasPrefix(name.Name, "Err") {
					names = append(names, name.Name)
				}
			}
		case *ast.TypeSpec:
			if n.Name.IsExported() {
				names = append(names, n.Name.Name)
			}
		}
		return true
	})
	slices.Sort(names)
	return names
}

// refusing is a backend whose pool fails with err.
type refusing struct {
	server.Backend
	err error
}

func (r refusing) Genesis() *chain.Genesis {
	return &chain.Genesis{Parameters: chain.DefaultParameters()}
}

func (r refusing) Submit(context.Context, []chain.Message, func()) ([]server.SubmitResult, error) {
	return nil, poolError(r.err)
}

// Promise 47.
func TestNoErrorOfThePoolIsAnInternalError(t *testing.T) {
	seen := map[string]bool{}
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"ErrEmpty":        {mempool.ErrEmpty, http.StatusBadRequest, "malformed"},
		"EmptyError":      {&mempool.EmptyError{Index: 1}, http.StatusBadRequest, "malformed"},
		"ErrTooMany":      {mempool.ErrTooMany, http.StatusRequestEntityTooLarge, "too_large"},
		"TooLargeError":   {&mempool.TooLargeError{Index: 1, Size: 3, Limit: 2}, http.StatusRequestEntityTooLarge, "too_large"},
		"FullError":       {&mempool.FullError{RetryAfter: time.Second}, http.StatusTooManyRequests, "pool_full"},
		"ErrShare":        {mempool.ErrShare, http.StatusTooManyRequests, "pool_full"},
		"ErrStorageLow":   {mempool.ErrStorageLow, http.StatusServiceUnavailable, "storage_low"},
		"ErrAuthor":       {mempool.ErrAuthor, http.StatusServiceUnavailable, "unavailable"},
		"ErrLeft":         {mempool.ErrLeft, http.StatusServiceUnavailable, "unavailable"},
		"ErrClosed":       {mempool.ErrClosed, http.StatusServiceUnavailable, "unavailable"},
		"ErrEquivocation": {mempool.ErrEquivocation, http.StatusServiceUnavailable, "unavailable"},
		"ErrHeight":       {mempool.ErrHeight, http.StatusServiceUnavailable, "unavailable"},
		"ErrBody":         {mempool.ErrBody, http.StatusServiceUnavailable, "unavailable"},
	} {
		for _, err := range []error{c.err, fmt.Errorf("submit: %w", c.err)} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/messages", strings.NewReader("m"))
			r.Header.Set("Content-Type", "application/octet-stream")
			w := httptest.NewRecorder()
			server.New(server.Options{Backend: refusing{err: err}}).Public().ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), `"code":"`+c.code+`"`) {
				t.Errorf("%s: %d %s, want %d %s", name, w.Code, w.Body, c.status, c.code)
			}
		}
		seen[name] = true
	}
	if got, want := slices.Sorted(maps.Keys(seen)), poolErrors(t); !slices.Equal(got, want) {
		t.Errorf("tried %v, the pool exports %v", got, want)
	}
	if other := errors.New("other"); !errors.Is(poolError(other), other) {
		t.Error("another error is not passed on")
	}
}

// Damage that a read finds is this node's own: a client learns to ask another node.
func TestDamageIsNoInternalErrorToAClient(t *testing.T) {
	b := &backend{blocks: repair.New(repair.Config{})}
	for name, err := range map[string]error{
		"a damaged block":      &store.DamagedBlockError{Height: 7, Err: store.ErrCorrupt},
		"a damaged database":   fmt.Errorf("evidence: %w", store.ErrMalformed),
		"a recomputed state":   fmt.Errorf("mempool: look up message: %w", trie.ErrRecomputing),
		"a state just damaged": poolError(fmt.Errorf("mempool: look up message: %w", trie.ErrRecomputing)),
	} {
		if got := b.readError(err); !errors.Is(got, server.ErrUnavailable) || !errors.Is(got, err) {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, err := range []error{nil, context.Canceled, fmt.Errorf("message: %w", server.ErrNotFound)} {
		if got := b.readError(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
