package server

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/access"
)

// Strangers from many addresses, each fast enough to keep its place, leave places for large
// requests and for streams to clients with a name. A reserve that is given up is theirs.
// Promise 85.
func TestStrangersLeavePlacesToNamedClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := control(t, `{"anonymous":{"allow":["Submit","Read"]},
		  "clients":[{"name":"named","token":{"file":"named"},"allow":["Submit","Read"]}]}`, []string{"named"})
		s := New(Options{Backend: newFake(t), Access: c.control, Limits: Limits{LargeBodies: 4, Streams: 4}})
		l, stop := servePipes(t, s)
		defer stop()
		ask := func(from, method, path string, body io.Reader, header http.Header) *http.Response {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = header.Clone()
			if r.Header == nil {
				r.Header = http.Header{}
			}
			r.Header.Set("Content-Type", batchType)
			answer, err := l.client(from).Do(r)
			if err != nil {
				t.Error(err)
				return nil
			}
			return answer
		}
		// Six strangers send without an end at twice the rate that is asked of them.
		done := make(chan struct{})
		var strangers sync.WaitGroup
		for i := range 6 {
			in, out := io.Pipe()
			strangers.Go(func() {
				for piece := bytes.Repeat([]byte("x"), minRate); ; time.Sleep(time.Second / 2) {
					if _, err := out.Write(piece); err != nil {
						return
					}
				}
			})
			strangers.Go(func() {
				<-done
				_ = out.CloseWithError(io.ErrUnexpectedEOF) // it never fails
			})
			strangers.Go(func() {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/v1/messages", in)
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Content-Type", batchType)
				if answer, err := l.client(fmt.Sprintf("192.0.2.%d:1", i)).Do(r); err == nil {
					_ = answer.Body.Close() // it is a refusal
				}
			})
		}
		time.Sleep(3 * time.Second)
		if taken := s.large.all.Taken(); taken != 3 {
			t.Errorf("strangers hold %d of 4 places for large requests, want 3", taken)
		}
		start := time.Now()
		large := batchOf(strings.Repeat("m", smallBody-1000), strings.Repeat("n", 2000))
		if answer := ask("198.51.100.1:1", http.MethodPost, "/v1/messages", strings.NewReader(large), as("named")); answer == nil ||
			answer.StatusCode != http.StatusAccepted || time.Since(start) > time.Second {
			t.Errorf("a large request of a named client: %+v after %v", answer, time.Since(start))
		} else {
			_ = answer.Body.Close() // it is read
		}
		close(done)
		strangers.Wait()

		var streams []*http.Response
		stream := func(i int, header http.Header) *http.Response {
			answer := ask(fmt.Sprintf("203.0.113.%d:1", i), http.MethodGet, "/v1/stream", nil, header)
			streams = append(streams, answer)
			return answer
		}
		for i := range 3 {
			stream(i, nil)
		}
		if taken := s.streams.all.Taken(); taken != 3 {
			t.Fatalf("%d streams are open, want 3", taken)
		}
		if answer := stream(10, as("named")); answer.StatusCode != http.StatusOK || s.streams.all.Taken() != 4 {
			t.Errorf("a stream of a named client: %s, %d open", answer.Status, s.streams.all.Taken())
		}
		for _, answer := range streams {
			_ = answer.Body.Close() // it has no end
		}
		synctest.Wait()

		// Without a reserve all places are for everybody.
		c.write("access.json", []byte(`{"anonymous":{"allow":["Submit","Read"]},"reserve":{"share":0},
		  "clients":[{"name":"named","token":{"file":"named"},"allow":["Submit","Read"]}]}`))
		again, err := access.Open(access.Config{Files: access.Files{Access: c.dir + "/access.json"}, ChainID: "test"})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		s.access = again
		streams = nil
		for i := range 4 {
			stream(i, nil)
		}
		if taken := s.streams.all.Taken(); taken != 4 {
			t.Errorf("%d streams are open without a reserve, want 4", taken)
		}
		for _, answer := range streams {
			_ = answer.Body.Close() // it has no end
		}
	})
}
