package integration

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/test/integration/harness"
)

// traffic records what goes to the API server.
type traffic struct {
	mu       sync.Mutex
	requests []string
	refused  []string
}

func (tr *traffic) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		beat := isBeat(r)
		response, err := next.RoundTrip(r)
		tr.mu.Lock()
		defer tr.mu.Unlock()
		line := r.Method + " " + r.URL.Path
		if r.URL.Query().Get("watch") != "" {
			line = "WATCH " + r.URL.Path
		}
		if beat {
			line = "BEAT " + r.URL.Path
		}
		tr.requests = append(tr.requests, line)
		if err == nil && (response.StatusCode == http.StatusForbidden || response.StatusCode == http.StatusUnauthorized) {
			tr.refused = append(tr.refused, line)
		}
		return response, err
	})
}

// isBeat says whether a request writes the time of the observation to a status, and nothing else.
func isBeat(r *http.Request) bool {
	if r.Method != http.MethodPatch || r.GetBody == nil {
		return false
	}
	body, err := r.GetBody()
	if err != nil {
		return false
	}
	var patch struct{ Status map[string]any }
	return json.NewDecoder(body).Decode(&patch) == nil && len(patch.Status) == 1 && patch.Status["lastObserved"] != nil
}

// beats is the number of requests that said when a network was observed, and nothing else.
func (tr *traffic) beats() (n int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, r := range tr.requests {
		if strings.HasPrefix(r, "BEAT ") {
			n++
		}
	}
	return n
}

// writes are the requests that change something, but those of leases and of the questions about
// rights, and beats.
func (tr *traffic) writes() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var writes []string
	for _, r := range tr.requests {
		if !strings.HasPrefix(r, "GET ") && !strings.HasPrefix(r, "WATCH ") && !strings.HasPrefix(r, "BEAT ") && !strings.Contains(r, "/leases") {
			writes = append(writes, r)
		}
	}
	return writes
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// runManager runs the whole operator, queue and caches included, until the test ends or stop is
// called.
func runManager(t testing.TB, c *cluster, config *rest.Config, change ...func(*ctrl.Options)) (stop func()) {
	t.Helper()
	options := ctrl.Options{
		Scheme: controllers.Scheme(), Cache: controllers.CacheOptions([]string{c.namespace}), Client: controllers.ClientOptions(),
		Metrics: metricsserver.Options{BindAddress: "0"},
	}
	for _, f := range change {
		f(&options)
	}
	mgr, err := ctrl.NewManager(config, options)
	if err != nil {
		t.Fatal(err)
	}
	// A pod of this cluster is ready a moment before its node answers. The time for which a trouble
	// stays shown passes thirty times as fast.
	began := time.Now()
	err = controllers.Setup(mgr, controllers.Options{
		Operator: resources.Operator{NodeImage: testImage}, Concurrency: 2, Resync: time.Second, Nodes: c.nodes,
		Registerer: prometheus.NewRegistry(), Now: func() time.Time { return began.Add(30 * time.Since(began)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the operator ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// wait lets the cluster work until the network is as wanted.
func (c *cluster) wait(name, what string, is func(*v1alpha1.DiseqNetwork) bool) *v1alpha1.DiseqNetwork {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		c.step(c.t.Context())
		if n := c.network(name); is(n) {
			return n
		}
		<-tick.C
	}
	c.t.Fatalf("%s is not %s:\n%s", name, what, describe(c.network(name)))
	return nil
}

// asServiceAccount returns the configuration of a ServiceAccount that may do what
// config/rbac/role.yaml says, with these changes, and nothing else.
func asServiceAccount(t testing.TB, c *cluster, change ...func(*rbacv1.PolicyRule)) *rest.Config {
	t.Helper()
	raw, err := os.ReadFile(harness.Path(t, "config", "rbac", "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.UnmarshalStrict(raw, role); err != nil {
		t.Fatal(err)
	}
	for i := range role.Rules {
		for _, f := range change {
			f(&role.Rules[i])
		}
	}
	role.Name = c.namespace + "-operator"
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: c.namespace, Name: "diseq-operator"}},
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "diseq-operator"}}
	for _, o := range []client.Object{account, role, binding} {
		if err := c.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, o := range []client.Object{role, binding} {
			if err := c.client.Delete(context.Background(), o); err != nil {
				t.Error(err)
			}
		}
	})
	config := harness.Config()
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + c.namespace + ":diseq-operator",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + c.namespace, "system:authenticated"},
	}
	harness.AwaitRight(t, config, authorizationv1.ResourceAttributes{
		Namespace: c.namespace, Group: v1alpha1.GroupVersion.Group, Resource: "diseqnetworks", Verb: "list",
	})
	return config
}

// The whole life of a network under the operator's own rights: nothing is refused, and Secrets are
// got by name only.
//
// Promise 67.
func TestTheOperatorsRightsSufficeAndSecretsAreNeverListed(t *testing.T) {
	c := newCluster(t)
	config := asServiceAccount(t, c)
	seen := &traffic{}
	config.Wrap(seen.wrap)
	config.QPS = -1
	runManager(t, c, config)
	c.apply("demo")
	c.wait("demo", "settled", settled)
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Image, n.Spec.Storage.Retention.OnDelete = "diseq:bad", v1alpha1.DeletePolicy
	})
	c.wait("demo", "degraded by the image", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "ImagePullFailed"
	})
	c.edit("demo", toImage("diseq:next"))
	c.wait("demo", "settled", settled)
	c.loseVolume("demo-v0")
	c.wait("demo", "unsettled", func(n *v1alpha1.DiseqNetwork) bool { return !settled(n) })
	c.wait("demo", "settled", settled)
	c.checkStatements()

	deadline := time.Now().Add(patience) // events are sent in the background
	told := map[string]int{}
	for ; told["ImagePullFailed"] == 0 || told["Restarting"] == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no events of the bad image and of restarts: %v", told)
		}
		events := &eventsv1.EventList{}
		if err := c.client.List(t.Context(), events, c.in()); err != nil {
			t.Fatal(err)
		}
		clear(told)
		for _, e := range events.Items {
			told[e.Reason]++
		}
	}

	seen.mu.Lock()
	defer seen.mu.Unlock()
	if len(seen.refused) > 0 {
		t.Errorf("refused: %v", slices.Compact(slices.Sorted(slices.Values(seen.refused))))
	}
	secrets := 0
	for _, r := range seen.requests {
		if strings.HasSuffix(r, "/secrets") && !strings.HasPrefix(r, "POST ") || strings.HasPrefix(r, "WATCH ") && strings.Contains(r, "/secrets") {
			t.Errorf("Secrets were listed or watched: %s", r)
		}
		if strings.Contains(r, "/secrets/") {
			secrets++
		}
	}
	if secrets == 0 {
		t.Error("no Secret was ever got: what is looked for here is not seen at all")
	}
}

// A whole change of the set under the operator's own rights: newcomers join, others are stopped,
// and their accounts and volumes are deleted. An admission policy or a role of one's own may keep
// the operator from annotating pods: then the set changes all the same.
//
// Promise 67.
func TestTheOperatorsRightsSufficeForAChange(t *testing.T) {
	for name, without := range map[string]func(*rbacv1.PolicyRule){
		"all of them": func(*rbacv1.PolicyRule) {},
		"without patching pods": func(r *rbacv1.PolicyRule) {
			if slices.Contains(r.Resources, "pods") {
				r.Verbs = slices.DeleteFunc(r.Verbs, func(verb string) bool { return verb == "patch" })
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			config := asServiceAccount(t, c, without)
			seen := &traffic{}
			config.Wrap(seen.wrap)
			config.QPS = -1
			c.apply("demo", withValidators(1), func(n *v1alpha1.DiseqNetwork) { n.Spec.Storage.Retention.OnScaleDown = v1alpha1.DeletePolicy })
			o := newOperatorOf(t, c, config, nil, prometheus.NewRegistry())
			o.settle("demo")
			c.edit("demo", withValidators(2))
			o.scale("grown", changed)
			c.edit("demo", withValidators(1))
			o.scale("shrunk", func(n *v1alpha1.DiseqNetwork) bool {
				return changed(n) && len(c.names(&corev1.PersistentVolumeClaimList{})) == 1 && len(c.names(&corev1.ServiceAccountList{})) == 1
			})
			seen.mu.Lock()
			defer seen.mu.Unlock()
			for _, r := range seen.refused {
				if name == "all of them" || !strings.HasPrefix(r, "PATCH ") || !strings.Contains(r, "/pods/") {
					t.Errorf("refused: %s", r)
				}
			}
			if (len(seen.refused) == 0) != (name == "all of them") {
				t.Errorf("%d requests were refused", len(seen.refused))
			}
		})
	}
}

// With caches, queue and timers, too, a converged network costs no write over several resyncs.
//
// Promise 64.
func TestARunningOperatorIsQuietWhenThereIsNothingToDo(t *testing.T) {
	c := newCluster(t)
	seen := &traffic{}
	config := harness.Config()
	config.Wrap(seen.wrap)
	runManager(t, c, config)
	c.apply("demo")
	c.wait("demo", "settled", settled)
	// Wait for the writes that were under way when the network settled: its status and its events.
	quiet(t, c, seen, 2*time.Second)
	before, asked := len(seen.writes()), c.nodes.Asked("demo-v0")
	beats, began := seen.beats(), time.Now()
	deadline := time.Now().Add(patience)
	for c.nodes.Asked("demo-v0") < asked+3 {
		if time.Now().After(deadline) {
			t.Fatal("the nodes are not asked again")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if writes := seen.writes()[before:]; len(writes) > 0 {
		t.Errorf("over two resyncs of a converged network it wrote %v", writes)
	}
	// the operator's clock passes thirty times as fast
	if n, took := seen.beats()-beats, 30*time.Since(began); n > 1+int(took/(59*time.Second)) {
		t.Errorf("within %v it wrote %d times that it looked", took, n)
	}
}

// quiet waits until nothing has been written for a while in which the operator looked at demo
// again.
func quiet(t *testing.T, c *cluster, seen *traffic, while time.Duration) {
	t.Helper()
	deadline := time.Now().Add(patience)
	last, since, asked := -1, time.Now(), 0
	for time.Since(since) < while || c.nodes.Asked("demo-v0") < asked+2 {
		if time.Now().After(deadline) {
			t.Fatalf("it never stops writing: %v", seen.writes()[max(0, last-10):])
		}
		c.step(t.Context())
		if n := len(seen.writes()); n != last {
			last, since, asked = n, time.Now(), c.nodes.Asked("demo-v0")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// One operator works at a time. When it ends it gives up its lease, and the next one goes on.
//
// Promise 68.
func TestAnotherOperatorTakesOver(t *testing.T) {
	c := newCluster(t)
	elected := func(o *ctrl.Options) {
		o.LeaderElection, o.LeaderElectionID, o.LeaderElectionNamespace = true, "diseq-operator", c.namespace
		o.LeaderElectionReleaseOnCancel = true
		// An operator that waited for the lease to expire would be too late. An operator that
		// renews it late, as on a busy machine, has not lost it.
		o.LeaseDuration, o.RenewDeadline, o.RetryPeriod = new(5*patience), new(4*patience), new(200*time.Millisecond)
	}
	one, two := &traffic{}, &traffic{}
	first, second := harness.Config(), harness.Config()
	first.Wrap(one.wrap)
	second.Wrap(two.wrap)
	stop := runManager(t, c, first, elected)
	c.apply("demo")
	c.wait("demo", "settled", settled)
	runManager(t, c, second, elected)
	c.edit("demo", toImage("diseq:next"))
	c.wait("demo", "rolling", func(*v1alpha1.DiseqNetwork) bool { return slices.Contains(c.started, "demo-v0-0 diseq:next") })
	if writes := two.writes(); len(writes) > 0 {
		t.Errorf("the second operator works beside the first: %v", writes)
	}
	stop()
	c.edit("demo", toImage("diseq:after"))
	c.wait("demo", "settled", settled)
	for pod, image := range c.images() {
		if image != "diseq:after" {
			t.Errorf("%s runs %s", pod, image)
		}
	}
	if len(two.writes()) == 0 {
		t.Error("who rolled the image?")
	}
	c.checkStatements()
}
