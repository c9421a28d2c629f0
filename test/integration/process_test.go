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

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
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
	stop, _ := startOperator(t, "--watch-namespace", namespace, "--leader-elect=false", "--metrics-bind-address", metrics,
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

// 200 ConfigMaps of a megabyte have the label of a network, and names that the operator gives to
// its own. The operator stays under the memory limit of its Deployment, and serves a network.
//
// Promise 81.
func TestHostileObjectsDoNotFillTheOperatorsMemory(t *testing.T) {
	const objects, limit = 200, 128 << 20
	harness.Install(t)
	hostile, good := harness.Namespace(t), harness.Namespace(t)
	server := harness.Client(t)
	content := strings.Repeat("x", 1_000_000)
	group := errgroup.Group{}
	group.SetLimit(4)
	for i := range objects {
		group.Go(func() error {
			network := fmt.Sprintf("x%d", i)
			return server.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: hostile, Name: network + "-genesis",
				Labels: map[string]string{"diseq.io/network": network}}, Data: map[string]string{"genesis.json": content}})
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOMEMLIMIT", fmt.Sprint(limit/10*9)) // as under a limit of the container
	for name, streams := range map[string]string{"streamed": "true", "paged": "false"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBE_FEATURE_WatchListClient", streams)
			probes := freeAddress(t)
			stop, pid := startOperator(t, "--watch-namespace", hostile+","+good, "--leader-elect=false", "--metrics-bind-address=0",
				"--health-probe-bind-address", probes)
			network := &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: good, Name: name}, Spec: v1alpha1.DiseqNetworkSpec{Validators: 4}}
			if err := server.Create(t.Context(), network); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the network to be made", func() bool {
				set := &appsv1.StatefulSet{}
				return server.Get(t.Context(), types.NamespacedName{Namespace: good, Name: name + "-v3"}, set) == nil
			})
			if most := peak(t, pid); most > limit {
				t.Errorf("the operator took %d MiB, want at most %d", most>>20, limit>>20)
			} else {
				t.Logf("the operator took %d MiB", most>>20)
			}
			stop()
		})
	}
}

// peak is the most memory that a process ever had, in bytes.
func peak(t *testing.T, pid int) (bytes int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	if _, err := fmt.Sscanf(after, "%d kB", &bytes); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return bytes << 10
}

// startOperator builds and runs the operator's program. stop ends it by SIGTERM, after which it has
// to exit in order.
func startOperator(t *testing.T, flags ...string) (stop func(), pid int) {
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
	}, operator.Process.Pid
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
