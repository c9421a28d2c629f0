package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/internal/clientcmd"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A world is a cluster of objects, with nodes that are servers of the test.
type world struct {
	t *testing.T
	*cluster
	app *app
	// nodes are the addresses of the nodes' clients' ports and operations ports, by pod and port.
	nodes map[string]string
	// text is what containers print, by pod.
	text map[string]string
}

func newWorld(t *testing.T, funcs interceptor.Funcs, objects ...ctrl.Object) *world {
	t.Helper()
	scheme, err := newScheme()
	must(t, err)
	w := &world{t: t, nodes: map[string]string{}, text: map[string]string{}}
	w.cluster = &cluster{
		Client: fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.DiseqNetwork{}).
			WithObjects(objects...).WithInterceptorFuncs(funcs).Build(),
		namespace: "chain",
		dial: func(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
			to, ok := w.nodes[fmt.Sprintf("%s:%d", pod, port)]
			if namespace != "chain" || !ok {
				return nil, fmt.Errorf("port-forward to pod %s: connection refused", pod)
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", to)
		},
		logs: func(_ context.Context, _, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
			text, ok := w.text[pod]
			if !ok {
				return nil, fmt.Errorf("container %q in pod %q is waiting to start", o.Container, pod)
			}
			return io.NopCloser(strings.NewReader(text)), nil
		},
	}
	w.app = newApp()
	w.app.connect = func() (*cluster, error) { return w.cluster, nil }
	w.app.now = func() time.Time { return now }
	w.app.every = time.Millisecond
	return w
}

type outcome struct {
	code           int
	stdout, stderr string
}

func (w *world) run(stdin string, args ...string) outcome {
	w.t.Helper()
	var out, errs bytes.Buffer
	code := w.app.run(w.t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return outcome{code, out.String(), errs.String()}
}

// succeeds returns the output of a command that must succeed.
func (w *world) succeeds(args ...string) string {
	w.t.Helper()
	o := w.run("", args...)
	if o.code != 0 {
		w.t.Fatalf("kubectl diseq %q: exit code %d: %s", args, o.code, o.stderr)
	}
	return o.stdout
}

// fails checks the exit code, and that the error is one line with the texts.
func (w *world) fails(code int, texts []string, args ...string) {
	w.t.Helper()
	o := w.run("", args...)
	missing := slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(o.stderr, text) })
	if o.code != code || missing || strings.Count(o.stderr, "\n") != 1 {
		w.t.Errorf("kubectl diseq %q: exit code %d, stderr %q; want %d and one line with %q", args, o.code, o.stderr, code, texts)
	}
}

// network is a network of four validators in which all is well, changed.
func network(changes ...func(*v1alpha1.DiseqNetwork)) *v1alpha1.DiseqNetwork {
	at := func(ago time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(-ago)} }
	n := &v1alpha1.DiseqNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: "chain", Generation: 1},
		Spec:       v1alpha1.DiseqNetworkSpec{Validators: 4},
		Status: v1alpha1.DiseqNetworkStatus{
			ObservedGeneration: 1, LastObserved: at(5 * time.Second), ChainID: "demo-1a2b3c4d", Height: 1234, FinalizedTime: at(7 * time.Second),
			Threshold: 3, Validators: 4, ReadyValidators: 4, DisruptionsAllowed: 1,
			Tolerance:      &v1alpha1.Tolerance{Crash: 1, Byzantine: 1, ByzantineWithSynchrony: 2},
			FailureDomains: &v1alpha1.FailureDomains{Machines: &v1alpha1.FailureDomain{InUse: 3, MayFail: 0, Critical: []string{"worker-1"}}},
		},
	}
	for i := range 4 {
		n.Status.Members = append(n.Status.Members, v1alpha1.Member{
			Name: resources.ValidatorName("demo", i), Phase: v1alpha1.MemberValidator, Height: 1234, Ready: true, VoteStore: true,
		})
	}
	condition(n, v1alpha1.ConditionAvailable, metav1.ConditionTrue, status.AllValidatorsReady, "all 4 validators are ready and caught up, threshold 3")
	condition(n, v1alpha1.ConditionProgressing, metav1.ConditionFalse, status.UpToDate, "all 4 pods run the wanted template")
	condition(n, v1alpha1.ConditionDegraded, metav1.ConditionFalse, status.AsExpected, "no problems")
	condition(n, v1alpha1.ConditionQuorumHealthy, metav1.ConditionTrue, status.SpareValidators, "1 more validator may fail")
	condition(n, v1alpha1.ConditionMembershipChanging, metav1.ConditionFalse, status.SetAsSpecified, "4 validators, threshold 3, as specified")
	condition(n, v1alpha1.ConditionEvidenceFound, metav1.ConditionFalse, status.NoEvidence, "no node that answers holds evidence")
	condition(n, v1alpha1.ConditionAccessReady, metav1.ConditionTrue, status.AccessOpen, "everybody may submit and read")
	for _, change := range changes {
		change(n)
	}
	return n
}

func condition(n *v1alpha1.DiseqNetwork, kind string, is metav1.ConditionStatus, reason, message string) {
	n.Status.Conditions = slices.DeleteFunc(n.Status.Conditions, func(c metav1.Condition) bool { return c.Type == kind })
	n.Status.Conditions = append(n.Status.Conditions, metav1.Condition{
		Type: kind, Status: is, Reason: reason, Message: message, ObservedGeneration: n.Generation,
		LastTransitionTime: metav1.Time{Time: now.Add(-90 * time.Second)},
	})
}

// pod is the pod of a validator of demo on a worker.
func pod(serial int, worker string, annotations map[string]string) *corev1.Pod {
	validator := resources.ValidatorName("demo", serial)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: resources.PodName(validator), Namespace: "chain", Labels: resources.PodLabels("demo", validator), Annotations: annotations,
		},
		Spec: corev1.PodSpec{NodeName: worker, Containers: []corev1.Container{{Name: resources.Container}}},
		Status: corev1.PodStatus{
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

func statefulSet(serial int) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{
		Name: resources.ValidatorName("demo", serial), Namespace: "chain", Labels: resources.NetworkSelector("demo"),
	}}
}

// The namespace is that of kubectl; a command without a name is about its only network.
func TestTheNetworkOfACommandIsFound(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, network())
	if out := w.succeeds("status"); !strings.HasPrefix(out, "demo in chain: ") {
		t.Errorf("status says %q", out)
	}
	w.fails(clientcmd.ExitFailure, []string{`"other" not found`}, "status", "other")
	other := network()
	other.Name, other.ResourceVersion = "other", ""
	must(t, w.Create(t.Context(), other))
	w.fails(clientcmd.ExitUsage, []string{"has 2 networks: name one of demo, other"}, "status")
	w.namespace = "empty"
	w.fails(clientcmd.ExitFailure, []string{"the namespace empty has no network", "-n"}, "status")
}

func TestCompletions(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, network(func(n *v1alpha1.DiseqNetwork) { n.Status.Members[3].Phase = v1alpha1.MemberRetired }),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "chain"}})
	for args, want := range map[string]string{
		"status ":               "demo\n",
		"replace ":              "demo-v0\tValidator\ndemo-v1\tValidator\ndemo-v2\tValidator\n",
		"replace demo-v0 ":      "demo-v1\tValidator\ndemo-v2\tValidator\n",
		"restart --validator ":  "demo-v0\tValidator\ndemo-v1\tValidator\ndemo-v2\tValidator\n",
		"submit --network ":     "demo\n",
		"status --namespace ch": "chain\n",
		"repo":                  "report\tCollect what others need to help with a network, without secrets\n",
	} {
		out := w.succeeds(arguments(append([]string{"/usr/bin/" + completeName}, strings.Split(args, " ")...))...)
		if got, _, _ := strings.Cut(out, ":"); got != want {
			t.Errorf("completions of %q are %q, want %q", args, out, want)
		}
	}
	if got := arguments([]string{"kubectl-diseq", "status"}); !slices.Equal(got, []string{"status"}) {
		t.Errorf("the plugin itself gets %q", got)
	}
}
