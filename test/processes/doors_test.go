package processes

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/diseq/diseq/test/system"
)

// knock connects to an address from another one than everybody else, with a small window, and sends
// text.
func knock(t *testing.T, address, text string) net.Conn {
	t.Helper()
	d := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}, Timeout: soon,
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		},
	}
	c, err := d.DialContext(t.Context(), "tcp", address)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, text)
	if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) { // it may be closed already
		t.Fatal(err)
	}
	return c
}

// quick asks a node over a connection of its own, as a probe does, and wants an answer in a second.
// The first seconds of an attack are another matter: then nothing is idle yet.
func quick(t *testing.T, url string) {
	t.Helper()
	system.Eventually(t, soon, url+" answers within a second", func() error {
		c := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := c.Get(url)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		if answer.StatusCode != http.StatusOK {
			err = errors.New(answer.Status)
		}
		return errors.Join(err, answer.Body.Close())
	})
}

// One client asks for 8 GiB of blocks over 1,024 connections and reads nothing. Then it fills every
// listener with connections that say nothing. The node's memory grows by less than 100 MiB, and
// others are served.
//
// Promise 51.
func TestOneClientFillsNoNode(t *testing.T) {
	n := system.Start(t, system.Options{})
	node := n.Nodes[0]
	node.OpenProbes()
	messages := make([][]byte, 100)
	for round := range 4 { // 24 MB
		for i := range messages {
			messages[i] = make([]byte, 60_000)
			_, _ = rand.Read(messages[i]) // it never fails
		}
		results, err := node.Submit(t.Context(), http.DefaultClient, "?wait=final&timeout=60s", messages)
		must(t, err)
		if len(results) != len(messages) {
			t.Fatalf("round %d: %d results", round, len(results))
		}
	}
	_, before := node.Resident()
	public, operations, probes := host(node.URL), host(node.Operations), host(node.Probes)
	for i := range 1024 {
		knock(t, public, fmt.Sprintf("GET /v1/blocks?from=%d&limit=100 HTTP/1.1\r\nHost: localhost\r\n\r\n", 1+i%4))
	}
	quick(t, node.URL+"/v1/blocks?from=1&limit=1")
	quick(t, node.URL+"/v1/status")
	for _, address := range []string{public, operations, probes} {
		for range 1030 {
			knock(t, address, "")
		}
	}
	for _, url := range []string{node.URL + "/v1/status", node.Operations + "/readyz", node.Probes + "/readyz", node.Probes + "/livez"} {
		quick(t, url)
	}
	if _, peak := node.Resident(); peak-before > 100<<20 {
		t.Errorf("the node has taken %d MiB more than the %d MiB before", (peak-before)>>20, before>>20)
	}
	if _, err := node.Finalize("after the flood"); err != nil {
		t.Error(err)
	}
}

func host(url string) string { return strings.TrimPrefix(url, "http://") }
