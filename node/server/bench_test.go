package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/chain"
)

// accepting is a node that takes everything and keeps nothing: what is left is the server's own
// cost.
type accepting struct{ *fake }

func (accepting) Submit(_ context.Context, messages []chain.Message, _ func()) ([]SubmitResult, error) {
	return make([]SubmitResult, len(messages)), nil
}

const benchMessages = 100

func benchData(i int) []byte { return fmt.Appendf(nil, "%0250d", i) }

// BenchmarkSubmit is the handler's cost for 100 messages of 250 bytes, without network and backend.
func BenchmarkSubmit(b *testing.B) {
	var batch []string
	list := []byte(`{"messages":[`)
	for i := range benchMessages {
		batch = append(batch, string(benchData(i)))
		if i > 0 {
			list = append(list, ',')
		}
		list = fmt.Appendf(list, `{"data":%q}`, base64.StdEncoding.EncodeToString(benchData(i)))
	}
	for _, c := range []struct {
		name, contentType string
		body              []byte
	}{{"batch", batchType, []byte(batchOf(batch...))}, {"json", jsonType, append(list, "]}"...)}} {
		b.Run(c.name, func(b *testing.B) {
			h := New(Options{Backend: accepting{newFake(b)}}).Public()
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/messages", bytes.NewReader(c.body))
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Content-Type", c.contentType)
				w := &discard{header: http.Header{}}
				h.ServeHTTP(w, r)
				if w.status != http.StatusAccepted {
					b.Fatal(w.status)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchMessages, "ns/message")
		})
	}
}

// BenchmarkSubmitOverLoopback is the whole of HTTP on one connection, client and server: 100
// messages of 250 bytes a request.
func BenchmarkSubmitOverLoopback(b *testing.B) {
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	served := make(chan error, 1)
	go func() { served <- New(Options{Backend: accepting{newFake(b)}}).Serve(ctx, Listeners{Public: l}) }()
	var batch []string
	for i := range benchMessages {
		batch = append(batch, string(benchData(i)))
	}
	body := []byte(batchOf(batch...))
	for b.Loop() {
		resp, err := http.Post("http://"+l.Addr().String()+"/v1/messages", batchType, bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusAccepted {
			b.Fatal(resp.Status, err)
		}
		_ = resp.Body.Close() // it is read to its end
	}
	b.ReportMetric(float64(b.N)*benchMessages/b.Elapsed().Seconds(), "messages/s")
	cancel()
	if err := <-served; err != nil {
		b.Error(err)
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkSchedule is the cost of one message in the form of the proof of concept.
func BenchmarkSchedule(b *testing.B) {
	body := append(appendNumbers([]byte(`{"data":`), benchData(1), ","), `,"timestamp":0}`...)
	h := New(Options{Backend: accepting{newFake(b)}}).Public()
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/schedule", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Content-Type", jsonType)
		h.ServeHTTP(&discard{header: http.Header{}}, r)
	}
}

// BenchmarkEncodeMessages is what a block costs once, however many stream it.
func BenchmarkEncodeMessages(b *testing.B) {
	messages := make([]chain.Message, 1000)
	ids := make([]chain.Hash, len(messages))
	for i := range messages {
		messages[i].Data = benchData(i)
		ids[i] = messages[i].ID()
	}
	b.ReportAllocs()
	for b.Loop() {
		encoded(messages, ids)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/message")
}

// BenchmarkSubmitWithAccess is the handler's cost for 100 messages of 250 bytes: without access
// control, and with a token, limits and audit lines.
func BenchmarkSubmitWithAccess(b *testing.B) {
	dir := b.TempDir()
	for name, content := range map[string]string{
		"token": secret("client"),
		"access.json": `{"audit":{"file":"audit.log"},"clients":[{"name":"client","token":{"file":"token"},"allow":["Submit"],
		  "limits":{"messagesPerSecond":1000000000,"bytesPerSecond":"1000Gi","bytesPerDay":"1000000Gi"}}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	control, err := access.Open(access.Config{Files: access.Files{Access: filepath.Join(dir, "access.json")}, ChainID: "test"})
	if err != nil {
		b.Fatal(err)
	}
	defer control.Close()
	var batch []string
	for i := range benchMessages {
		batch = append(batch, string(benchData(i)))
	}
	body := []byte(batchOf(batch...))
	for name, control := range map[string]*access.Control{"open": nil, "closed": control} {
		b.Run(name, func(b *testing.B) {
			h := New(Options{Backend: accepting{newFake(b)}, Access: control}).Public()
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/messages", bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Content-Type", batchType)
				r.Header.Set("Authorization", "Bearer "+secret("client"))
				w := &discard{header: http.Header{}}
				h.ServeHTTP(w, r)
				if w.status != http.StatusAccepted {
					b.Fatal(w.status)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchMessages, "ns/message")
		})
	}
}
