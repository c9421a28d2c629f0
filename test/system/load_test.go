package system

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/oracle"
)

// A node that is killed and started again between two requests breaks the connection without an
// error. Messages keep their order over one connection only.
func TestALaneEndsWithItsConnection(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		size, n := binary.Uvarint(body)
		id := chain.Message{Data: body[n : n+int(size)]}.ID()
		_ = json.NewEncoder(w).Encode(map[string]any{"results": []any{map[string]any{"id": id, "status": "pending"}}})
	}))
	t.Cleanup(server.Close)
	ledger := &Ledger{Ledger: oracle.NewLedger()}
	nodes := []*Node{{URL: server.URL}}
	c := &submitter{load: &Load{Nodes: nodes, Batch: 1, Size: 24}, ledger: ledger, down: make([]time.Time, 1), lastNode: -1}
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	t.Cleanup(client.CloseIdleConnections)

	c.request(t.Context(), client)
	c.request(t.Context(), client)
	client.CloseIdleConnections() // as when the client has noticed that the node closed it
	c.request(t.Context(), client)
	c.request(t.Context(), client)

	lanes := map[int]int{}
	for _, a := range ledger.All() {
		lanes[a.Lane.Sequence]++
	}
	if len(lanes) != 2 || lanes[1] != 2 || lanes[2] != 2 {
		t.Errorf("messages by lane: %v, want two in each of the lanes 1 and 2; failed requests: %d", lanes, ledger.Failed)
	}
}
