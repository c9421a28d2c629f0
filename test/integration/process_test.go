package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/diseq/diseq/test/integration/harness"
)

// The operator's program serves its probes to everyone, and its metrics over TLS to users that the
// API server allows.
//
// Promise 67.
func TestTheOperatorsMetricsAreReadByWhoMay(t *testing.T) {
	harness.Install(t)
	namespace := harness.Namespace(t)
	token := func(name string) string {
		t.Helper()
		for _, arguments := range [][]string{{"create", "serviceaccount", name}, {"create", "token", name}} {
			out, err := harness.Kubectl(t, append(arguments, "--namespace", namespace)...)
			if err != nil {
				t.Fatalf("%v: %s, %v", arguments, out, err)
			}
			if arguments[1] == "token" {
				return strings.TrimSpace(out)
			}
		}
		return ""
	}
	stranger, reader := token("stranger"), token("reader")
	if out, err := harness.Kubectl(t, "create", "clusterrolebinding", namespace, "--clusterrole", "diseq-operator-metrics-reader",
		"--serviceaccount", namespace+":reader"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	metrics, probes := freeAddress(t), freeAddress(t)
	stop := startOperator(t, "--watch-namespace", namespace, "--leader-elect=false", "--metrics-bind-address", metrics,
		"--health-probe-bind-address", probes)
	web := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		// the certificate is the operator's own
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	get := func(url, token string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := web.Do(request)
		if err != nil {
			return 0, err.Error()
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
		if closed := response.Body.Close(); err != nil || closed != nil {
			t.Fatal(err, closed)
		}
		return response.StatusCode, string(body)
	}
	eventually(t, "the operator to be ready", func() bool {
		ready, _ := get("http://"+probes+"/readyz", "")
		served, _ := get("https://"+metrics+"/metrics", "")
		return ready == http.StatusOK && served != 0
	})
	if code, body := get("http://"+probes+"/healthz", ""); code != http.StatusOK {
		t.Errorf("/healthz: %d %s", code, body)
	}
	for _, c := range []struct {
		who, token string
		code       int
	}{{"nobody", "", http.StatusUnauthorized}, {"a stranger", stranger, http.StatusForbidden}, {"a reader", reader, http.StatusOK}} {
		code, body := get("https://"+metrics+"/metrics", c.token)
		if code != c.code {
			t.Errorf("metrics for %s: %d %.200s, want %d", c.who, code, body, c.code)
		}
		if told := strings.Contains(body, "go_goroutines"); told != (c.code == http.StatusOK) {
			t.Errorf("metrics for %s: shown: %t", c.who, told)
		}
	}
	stop()
}

// startOperator builds and runs the operator's program. stop ends it by SIGTERM, after which it has
// to exit in order.
func startOperator(t *testing.T, flags ...string) (stop func()) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "operator")
	build := exec.Command("go", "build", "-o", binary, "github.com/diseq/diseq/cmd/operator")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %s, %v", out, err)
	}
	var log bytes.Buffer
	operator := exec.Command(binary, flags...)
	operator.Env = append(os.Environ(), "KUBECONFIG="+harness.Kubeconfig())
	operator.Stdout, operator.Stderr = &log, &log
	operator.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := operator.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- operator.Wait() }()
	t.Cleanup(func() {
		_ = operator.Process.Kill() // it has ended, unless the test failed
		if t.Failed() {
			t.Logf("the operator said:\n%s", log.String())
		}
	})
	return func() {
		t.Helper()
		if err := operator.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the operator ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("the operator does not end on SIGTERM")
		}
	}
}

// freeAddress is one of loopback that nobody listens on, below the ports that the kernel gives to
// outgoing connections: of one of those a connection could take hold until the operator is built
// and listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000)))
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }() // nothing was accepted
		return l.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}
