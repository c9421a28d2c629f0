package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// kubelet answers port-forwards as an API server does that knows SPDY alone. Port 8080 leads to an
// address; to any other port the connection fails with a reason.
type kubelet struct {
	t  *testing.T
	to string

	mu    sync.Mutex
	asked []string
}

func (k *kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	k.asked = append(k.asked, r.Method+" "+r.URL.Path)
	k.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer of-the-user" {
		http.Error(w, "who are you?", http.StatusForbidden)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "no websockets here", http.StatusBadRequest)
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{portforward.PortForwardProtocolV1Name}); err != nil {
		k.t.Errorf("handshake: %v", err)
		return
	}
	streams := make(chan httpstream.Stream, 2)
	c := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		streams <- s
		return nil
	})
	if c == nil {
		k.t.Error("the connection is not upgraded")
		return
	}
	defer func() { _ = c.Close() }()
	problems, data := <-streams, <-streams
	if data.Headers().Get(corev1.StreamType) != corev1.StreamTypeData {
		k.t.Errorf("the second stream is of type %q", data.Headers().Get(corev1.StreamType))
	}
	if data.Headers().Get(corev1.PortHeader) != "8080" {
		_, _ = io.WriteString(problems, "error forwarding port: connection refused") // the client may have gone
		_ = problems.Close()
		_ = data.Reset()
		<-c.CloseChan()
		return
	}
	node, err := net.Dial("tcp", k.to)
	if err != nil {
		k.t.Error(err)
		return
	}
	defer func() { _ = node.Close() }()
	go func() { _, _ = io.Copy(node, data) }()
	_, _ = io.Copy(data, node)
	_ = problems.Close()
}

// Connections to pods go through the API server with the user's own credential. One that fails says
// what the kubelet said.
func TestConnectionsGoThroughTheAPIServer(t *testing.T) {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello "+r.Host) }))
	defer node.Close()
	k := &kubelet{t: t, to: node.Listener.Addr().String()}
	server := httptest.NewServer(k)
	defer server.Close()
	forward := func(token string) func(context.Context, string, string, int) (net.Conn, error) {
		config := &rest.Config{Host: server.URL, BearerToken: token}
		set, err := kubernetes.NewForConfig(config)
		must(t, err)
		return forwarder(config, set.CoreV1().RESTClient())
	}
	dial := forward("of-the-user")
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, to string) (net.Conn, error) {
		return dial(ctx, "chain", "demo-v0-0", map[string]int{"pod:80": 8080, "lost:80": 9}[to])
	}}}
	defer c.CloseIdleConnections()
	for range 2 { // over one connection
		answer, err := c.Get("http://pod/")
		must(t, err)
		text, err := io.ReadAll(answer.Body)
		must(t, err)
		must(t, answer.Body.Close())
		if string(text) != "hello pod" {
			t.Errorf("the node says %q", text)
		}
	}
	k.mu.Lock()
	asked := strings.Join(k.asked, ", ")
	k.mu.Unlock()
	const path = "/api/v1/namespaces/chain/pods/demo-v0-0/portforward"
	if asked != "GET "+path+", POST "+path {
		t.Errorf("the API server was asked %s", asked)
	}
	if _, err := c.Get("http://lost/"); err == nil || !strings.Contains(err.Error(), "pod demo-v0-0:9: error forwarding port: connection refused") {
		t.Errorf("a port where nothing listens: %v", err)
	}
	if _, err := forward("of-a-stranger")(t.Context(), "chain", "demo-v0-0", 8080); err == nil || !strings.Contains(err.Error(), "who are you?") {
		t.Errorf("without the right: %v", err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if _, err := dial(ended, "chain", "demo-v0-0", 8080); err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("with a context that has ended: %v", err)
	}
}
