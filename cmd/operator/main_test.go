package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestWrongFlagsAreRefusedWithTheValueAndWhatIsAllowed(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--watch-namespace=a,B"}, []string{"--watch-namespace", `"B"`, "a-z"}},
		{[]string{"--node-image="}, []string{"--node-image", "name of an image"}},
		{[]string{"--allowed-node-images=(a"}, []string{"--allowed-node-images", `"(a"`, "regular expression"}},
		{[]string{"--allowed-sidecar-images=a)|(b"}, []string{"--allowed-sidecar-images", "regular expression"}},
		{[]string{"--allowed-annotations=team,example.com*"}, []string{"--allowed-annotations", `"example.com*"`, "example.com/*"}},
		{[]string{"--allowed-pod-labels=a b"}, []string{"--allowed-pod-labels", `"a b"`}},
		{[]string{"--leader-election-namespace=a/b"}, []string{"--leader-election-namespace", `"a/b"`}},
		{[]string{"--metrics-bind-address=8443"}, []string{"--metrics-bind-address", `"8443"`, "host:port"}},
		{[]string{"--health-probe-bind-address=:http!"}, []string{"--health-probe-bind-address", `":http!"`}},
		{[]string{"--metrics-cert-path=/does/not/exist"}, []string{"--metrics-cert-path", "tls.crt"}},
		{[]string{"--metrics-insecure", "--metrics-cert-path=/tmp"}, []string{"--metrics-cert-path", "--metrics-insecure"}},
		{[]string{"--resync=1ms"}, []string{"--resync", `"1ms"`, "1s to 1h"}},
		{[]string{"--resync=soon"}, []string{"--resync", `"soon"`}},
		{[]string{"--concurrency=0"}, []string{"--concurrency", `"0"`, "1 to 64"}},
		{[]string{"--log-level=loud"}, []string{"--log-level", `"loud"`, "debug, info, warn or error"}},
		{[]string{"--log-format=xml"}, []string{"--log-format", `"xml"`, "text or json"}},
		{[]string{"--resync=1ms", "--concurrency=0"}, []string{"--resync", "--concurrency"}},
		{[]string{"--leader"}, []string{"unknown flag", "--leader"}},
		{[]string{"now"}, []string{"now"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			var stderr bytes.Buffer
			code := run(t.Context(), c.args, &bytes.Buffer{}, &stderr, func(context.Context, options) error {
				t.Error("the operator was started")
				return nil
			})
			if code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			for _, part := range append(c.want, "--help") {
				if !strings.Contains(stderr.String(), part) {
					t.Errorf("the message does not have %q: %s", part, stderr.String())
				}
			}
		})
	}
}

func TestFlagsReachTheOperator(t *testing.T) {
	var got options
	args := []string{
		"--watch-namespace=a,b", "--watch-namespace=c", "--node-image=x/y:1", "--leader-elect", "--metrics-bind-address=0",
		"--health-probe-bind-address=127.0.0.1:0", "--resync=1m", "--concurrency=7", "--log-level=warn", "--log-format=json",
	}
	code := run(t.Context(), args, &bytes.Buffer{}, &bytes.Buffer{}, func(_ context.Context, o options) error {
		got = o
		return nil
	})
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if !slices.Equal(got.namespaces, []string{"a", "b", "c"}) || got.nodeImage != "x/y:1" || !got.leaderElect ||
		got.metricsAddress != "0" || got.resync != time.Minute || got.concurrency != 7 {
		t.Errorf("got %+v", got)
	}
}

// An operator without a word about it runs no image but its own.
//
// Promise 88.
func TestByDefaultNoOtherImageIsAllowed(t *testing.T) {
	for _, c := range []struct {
		args           []string
		image, sidecar string
		allowed        bool
	}{
		{nil, "diseq:other", "diseq:dev", true},
		{nil, "evil:dev", "diseq:dev", false},
		{nil, "diseq:dev", "evil:dev", false},
		{[]string{"--node-image=registry.example/a/diseq:v1"}, "registry.example/a/diseq:v2", "registry.example/a/diseq:v1", true},
		{[]string{"--node-image=registry.example/a/diseq:v1"}, "diseq:v2", "registry.example/a/diseq:v1", false},
		{[]string{"--allowed-node-images=mirror/.*"}, "mirror/diseq:v2", "diseq:v2", true},
		{[]string{"--allowed-node-images=mirror/.*"}, "mirror/diseq:v2", "mirror/proxy:v2", false},
		{[]string{"--allowed-sidecar-images=.*"}, "diseq:v2", "mirror/proxy:v2", true},
	} {
		o := defaults()
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		o.register(flags)
		if err := errors.Join(flags.Parse(c.args), o.validate()); err != nil {
			t.Fatal(err)
		}
		allowed, err := o.allowed()
		if err != nil {
			t.Fatal(err)
		}
		if got := allowed.NodeImages.MatchString(c.image) && allowed.SidecarImages.MatchString(c.sidecar); got != c.allowed {
			t.Errorf("%q: %s beside %s: allowed is %t, want %t", c.args, c.image, c.sidecar, got, c.allowed)
		}
		if len(allowed.Annotations)+len(allowed.PodLabels) > 0 {
			t.Errorf("%q: annotations %q, labels %q", c.args, allowed.Annotations, allowed.PodLabels)
		}
	}
}

func TestExitCodesTellAFailureFromAStop(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{{nil, 0}, {context.Canceled, 0}, {errors.New("no cluster"), exitFailure}} {
		var stderr bytes.Buffer
		code := run(t.Context(), nil, &bytes.Buffer{}, &stderr, func(context.Context, options) error { return c.err })
		if code != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, code, c.want)
		}
		if c.want == exitFailure && !strings.Contains(stderr.String(), c.err.Error()) {
			t.Errorf("the message does not have %q: %s", c.err, stderr.String())
		}
	}
}

func TestTheLogHasTheAskedForFormAndLevel(t *testing.T) {
	var stderr bytes.Buffer
	run(t.Context(), []string{"--log-format=json"}, &bytes.Buffer{}, &stderr, func(context.Context, options) error { return nil })
	if !strings.HasPrefix(stderr.String(), `{"time":`) || !strings.Contains(stderr.String(), `"msg":"starting"`) {
		t.Errorf("no JSON: %s", stderr.String())
	}
	stderr.Reset()
	run(t.Context(), []string{"--log-level=error"}, &bytes.Buffer{}, &stderr, func(context.Context, options) error { return nil })
	if stderr.Len() > 0 {
		t.Errorf("with level error it logged %s", stderr.String())
	}
}

func TestMetricsAreSecureUnlessAskedOtherwise(t *testing.T) {
	o := defaults()
	if m := metricsOptions(o); !m.SecureServing || m.FilterProvider == nil {
		t.Errorf("by default: secure %v, filter %v", m.SecureServing, m.FilterProvider != nil)
	}
	o.metricsInsecure = true
	if m := metricsOptions(o); m.SecureServing {
		t.Error("--metrics-insecure serves TLS")
	}
}
