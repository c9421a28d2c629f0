package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/node/chain"
)

const (
	// changeWithin is what the project promises of a change: from all newcomers ready to the block
	// that carries it. growWithin is the promise for growing from 4 to 7, from the command on.
	changeWithin = 30 * time.Second
	growWithin   = 2 * time.Minute
)

// kubectl runs kubectl in the namespace of the network.
func (n *Network) kubectl(args ...string) string {
	n.tb.Helper()
	out, err := exec.CommandContext(n.tb.Context(), "kubectl", append([]string{"--namespace", n.Namespace}, args...)...).CombinedOutput()
	if err != nil {
		n.tb.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// change changes the set with do, and waits with kubectl until it has changed and the validators
// that left are stopped. It logs how long each part took.
func (n *Network) change(o *Oracle, what string, within time.Duration, do func()) *v1alpha1.DiseqNetwork {
	n.tb.Helper()
	before, err := n.Resource(n.tb.Context())
	must(n.tb, err)
	begun := time.Now()
	do()
	ready, changed := begun, time.Time{}
	Eventually(n.tb, soon, what+": the set has changed", func(ctx context.Context) error {
		d, err := n.Resource(ctx)
		if err != nil {
			return err
		}
		if d.Status.SetGeneration > before.Status.SetGeneration {
			changed = time.Now()
			return nil
		}
		waits := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionMembershipChanging)
		if waits.Reason == "WaitingForNewcomers" || waits.Reason == "WaitingForUpdate" || d.Status.ObservedGeneration != d.Generation {
			ready = time.Now()
		}
		return errors.New(conditions(d))
	})
	n.kubectl("wait", "dsq", n.Name, "--for=condition=MembershipChanging=False", "--timeout", soon.String())
	d, err := n.Resource(n.tb.Context())
	must(n.tb, err)
	n.members = nil
	var members []int
	for _, m := range d.Status.Members {
		if m.Phase == v1alpha1.MemberValidator || m.Phase == v1alpha1.MemberRejoining {
			k, err := strconv.Atoi(strings.TrimPrefix(m.Name, n.Name+"-v"))
			must(n.tb, err)
			members = append(members, k)
		}
	}
	for _, k := range members {
		if o != nil && !slices.ContainsFunc(before.Status.Members, func(m v1alpha1.Member) bool { return m.Name == n.ValidatorName(k) }) {
			o.Follow(k)
		}
	}
	n.members, n.Validators = members, len(members)
	n.tb.Logf("        %s: changed after %.1f s, %.1f s after all newcomers were ready; leavers stopped after %.1f s: %v", what,
		changed.Sub(begun).Seconds(), changed.Sub(ready).Seconds(), time.Since(begun).Seconds(), members)
	if took := changed.Sub(ready); took > within {
		n.tb.Errorf("%s took %v from newcomers ready to the change", what, took)
	}
	return d
}

// scale changes the number of validators with kubectl scale.
func (n *Network) scale(o *Oracle, replicas int) *v1alpha1.DiseqNetwork {
	n.tb.Helper()
	d := n.change(o, fmt.Sprintf("scaled to %d", replicas), changeWithin, func() { n.kubectl("scale", "dsq", n.Name, fmt.Sprintf("--replicas=%d", replicas)) })
	if int(d.Status.Validators) != replicas || len(n.members) != replicas {
		n.tb.Errorf("%d validators, members %v, want %d", d.Status.Validators, n.members, replicas)
	}
	return d
}

// One network changes its set in all ways, and is updated, under load: no client of the Service is
// refused, nothing that was accepted is lost, the nodes agree, and receipts verify from the genesis
// document on, through every change.
//
// Promise 78.
func TestTheValidatorSetChangesUnderLoad(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "scale"), "supple", 4)
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) { s.Service.Drain = nil }))
	n.AwaitAvailable()
	n.AwaitConverged()
	receipts := []*chain.Receipt{n.Finalize("in the first set")}
	o, l := n.Watch(), n.Write("scale")

	finish := n.load("changes")
	begun := time.Now()
	n.scale(o, 7)
	if took := time.Since(begun); took > growWithin {
		t.Errorf("growing from 4 to 7 took %v", took)
	}
	receipts = append(receipts, n.Finalize("by seven"))
	kill := n.AimAtOperator(t)
	n.change(o, "scaled to 3, the operator killed on the way", soon, func() {
		n.kubectl("scale", "dsq", n.Name, "--replicas=3")
		n.Seen(t, "the next set is declared", n.Namespace, &corev1.ConfigMapList{}, func(o ctrl.Object) bool {
			held, ok := o.(*corev1.ConfigMap)
			return ok && held.Name == n.Name+"-peers" && strings.Contains(held.Data["peers.json"], `"target"`)
		})
		kill()
	})
	receipts = append(receipts, n.Finalize("by three"))
	n.gone(3, 4, 5, 6)
	finish()

	// A policy alone is a change.
	n.change(o, "threshold policy changed", changeWithin, func() {
		n.kubectl("patch", "dsq", n.Name, "--type=merge", "--patch", `{"spec":{"threshold":{"policy":"Fixed","value":3}}}`)
	})
	if d, err := n.Resource(t.Context()); err != nil || d.Status.Threshold != 3 {
		t.Errorf("threshold %d, %v", d.Status.Threshold, err)
	}
	n.change(o, "threshold policy changed back", changeWithin, func() {
		n.kubectl("patch", "dsq", n.Name, "--type=merge", "--patch", `{"spec":{"threshold":{"policy":"Majority","value":null}}}`)
	})

	// The scaling waits for the update, or the update for the scaling; neither is lost.
	finish = n.load("update")
	n.change(o, "scaled during an update", changeWithin, func() {
		n.kubectl("patch", "dsq", n.Name, "--type=merge", "--patch", fmt.Sprintf(`{"spec":{"image":%q}}`, n.NextImage))
		n.kubectl("scale", "dsq", n.Name, "--replicas=4")
	})
	n.AwaitConverged()
	finish()

	l.Stop()
	t.Logf("        %v", l)
	t.Logf("        the longest time without a block was %.1f s", o.LongestGap(begun, time.Now()).Seconds())
	o.Check(t, l)
	for _, r := range receipts {
		must(t, r.Verify(n.MustGenesis(), 0))
		o.Receipt(t, r)
	}
}

// clients are the loads that a network is put under: 100 requests a second with five messages each
// over connections that are kept, and 100 over a new connection each. They repeat nothing.
var clients = map[string][]string{
	"kept": {"--rate", "500", "--batch", "5"},
	"new":  {"--rate", "100", "--batch", "1", "--new-connections"},
}

// load puts a network under load, from pods, by the address of its Service. finish ends that and
// logs the times from submit to final. The test fails if one of a thousand requests of each kind or
// more was refused or not answered, or if a message that was accepted is lost.
func (n *Network) load(label string) (finish func()) {
	n.tb.Helper()
	const atLeast = 1000
	pods := map[string]*corev1.Pod{}
	for kind, args := range clients {
		pod := n.clientPod(n.Namespace, fmt.Sprintf("%s-%s-%s", n.Name, label, kind), append([]string{
			"bench", "--json", "--url", fmt.Sprintf("http://%s:%d", n.Name, publicPort), "--duration", "1h",
		}, args...)...)
		pod.Spec.TerminationGracePeriodSeconds = new(int64(60)) // it waits for its last messages
		must(n.tb, n.Create(n.tb.Context(), pod))
		pods[kind] = pod
	}
	return func() {
		for kind, pod := range pods {
			n.endOfLoad(kind, pod, atLeast)
		}
	}
}

// endOfLoad has the kubelet end a pod that puts load on the network, and judges its report.
func (n *Network) endOfLoad(kind string, pod *corev1.Pod, atLeast int) {
	n.tb.Helper()
	must(n.tb, n.Patch(n.tb.Context(), pod, ctrl.RawPatch("application/merge-patch+json", []byte(`{"spec":{"activeDeadlineSeconds":1}}`))))
	Eventually(n.tb, soon, pod.Name+" has ended", func(ctx context.Context) error {
		if err := n.Get(ctx, ctrl.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		if s := pod.Status.ContainerStatuses; len(s) != 1 || s[0].State.Terminated == nil {
			return fmt.Errorf("it is %s", pod.Status.Phase)
		}
		return nil
	})
	printed := n.log(n.tb.Context(), pod, false)
	var report struct {
		Sent, Batch, Accepted, Refused, Failed, Lost int
		Latency                                      json.RawMessage `json:"latency_ms"`
	}
	if err := json.Unmarshal([]byte(printed), &report); err != nil {
		n.tb.Errorf("%s: %v: %s", pod.Name, err, printed)
		return
	}
	n.tb.Logf("        %s, connections %s: %d requests, %d messages accepted, %d refused, %d not answered; from submit to final in ms: %s",
		pod.Name, kind, report.Sent/report.Batch, report.Accepted, report.Refused, report.Failed, report.Latency)
	if code := pod.Status.ContainerStatuses[0].State.Terminated.ExitCode; code != 0 || report.Sent/report.Batch < atLeast ||
		report.Accepted != report.Sent || report.Refused+report.Failed+report.Lost > 0 {
		n.tb.Errorf("%s: exit code %d: %s", pod.Name, code, printed)
	}
}

// gone waits until nothing of validators that left runs, and holds that their keys are there and
// marked.
func (n *Network) gone(serials ...int) {
	n.tb.Helper()
	for _, k := range serials {
		Eventually(n.tb, soon, n.ValidatorName(k)+" is gone", func(ctx context.Context) error {
			for what, object := range map[string]ctrl.Object{n.PodName(k): &corev1.Pod{}, n.ValidatorName(k): &appsv1.StatefulSet{}} {
				if err := n.Get(ctx, n.key(what), object); !apierrors.IsNotFound(err) {
					return fmt.Errorf("%T %s is there: %v", object, what, err)
				}
			}
			return nil
		})
		secret := &corev1.Secret{}
		must(n.tb, n.Get(n.tb.Context(), n.key(n.ValidatorName(k)), secret))
		if secret.Annotations["diseq.io/retired"] == "" {
			n.tb.Errorf("Secret %s is not marked: %v", secret.Name, secret.Annotations)
		}
	}
}

// A worker is gone for good, with the volume on it. The validator is replaced by name. Then a
// newcomer finds no worker until there is one. Meanwhile the network scales during a drain, and at
// the end it is deleted and applied again.
func TestAValidatorWhoseWorkerIsGoneIsReplaced(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "replace"), "healing", 4)
	n.Apply(n.Spec())
	n.AwaitAvailable()
	n.AwaitConverged()
	o, l := n.Watch(), n.Write("replace")

	worker, inside, _ := n.loneWorker(t)
	lost := slices.IndexFunc(n.serials(), func(k int) bool { return n.PodName(k) == inside.Name })
	cordon(t, worker, true)
	t.Cleanup(func() { cordon(t, worker, false) })
	must(t, n.Delete(t.Context(), inside)) // its volume keeps it on that worker, where it cannot come back
	n.change(o, "a validator is replaced", changeWithin, func() {
		n.kubectl("patch", "dsq", n.Name, "--type=merge", "--patch", fmt.Sprintf(`{"spec":{"retire":[%q]}}`, n.ValidatorName(lost)))
	})
	if slices.Contains(n.members, lost) || len(n.members) != 4 {
		t.Errorf("members %v, and %d was to leave", n.members, lost)
	}

	// With a worker that is drained, and then all of them cordoned, a newcomer has no place.
	workers := n.workers()
	for _, w := range workers {
		cordon(t, w, true)
		t.Cleanup(func() { cordon(t, w, false) })
	}
	n.kubectl("scale", "dsq", n.Name, "--replicas=5")
	Eventually(t, soon, "the newcomer is waited for by name", func(ctx context.Context) error {
		d, err := n.Resource(ctx)
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionMembershipChanging)
		if c.Status != metav1.ConditionTrue || c.Reason != "WaitingForNewcomers" || !strings.Contains(c.Message, "Unschedulable") || d.Status.Validators != 4 {
			return errors.New(conditions(d))
		}
		t.Logf("        %s", c.Message)
		return nil
	})
	n.Finalize("while a newcomer has no place")
	n.change(o, "the newcomer has found a place", changeWithin, func() {
		for _, w := range workers {
			cordon(t, w, false)
		}
	})

	// One pod is evicted while the set changes.
	n.change(o, "scaled during a drain", changeWithin, func() {
		if err := n.evict(t.Context(), n.MustPod(n.members[0])); err != nil && !apierrors.IsTooManyRequests(err) {
			t.Error(err)
		}
		n.kubectl("scale", "dsq", n.Name, "--replicas=4")
	})
	n.AwaitConverged()
	l.Stop()
	t.Logf("        %v", l)
	o.Check(t, l)

	receipt, height := n.Finalize("before the network is deleted"), o.Highest()
	before, err := n.Resource(t.Context())
	must(t, err)
	spec := before.Spec
	n.remove()
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) { s.Validators, s.Retire = 4, spec.Retire }))
	n.AwaitAvailable()
	n.AwaitConverged()
	after, err := n.Resource(t.Context())
	must(t, err)
	if after.Status.ChainID != before.Status.ChainID || after.Status.SetGeneration != before.Status.SetGeneration {
		t.Errorf("chain %s of generation %d, it was %s of %d", after.Status.ChainID, after.Status.SetGeneration, before.Status.ChainID, before.Status.SetGeneration)
	}
	o.Receipt(t, receipt)
	if later := n.Finalize("after it was applied again"); later.Height <= height {
		t.Errorf("the chain ended at height %d, a new message is at %d", height, later.Height)
	}
	o.Check(t)
}

// workers are the nodes that take pods.
func (n *Network) workers() (names []string) {
	n.tb.Helper()
	var nodes corev1.NodeList
	must(n.tb, n.List(n.tb.Context(), &nodes))
	for _, node := range nodes.Items {
		if len(node.Spec.Taints) == 0 || node.Spec.Unschedulable {
			names = append(names, node.Name)
		}
	}
	return names
}
