package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

// One network goes through all of it, each time another validator, with a client that never stops:
// what was accepted before, during and after is final in the end, once, on every node.
//
// Promise 78.
func TestWhatIsTakenFromANetworkComesBackAndNothingIsLost(t *testing.T) {
	refused := podRefused(t)
	n := cluster.Network(t, cluster.Namespace(t, "failures"), "sturdy", 4)
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) { s.Service.Drain = &metav1.Duration{Duration: 5 * time.Second} }))
	n.AwaitAvailable()
	n.AwaitConverged()
	keys, o, l := n.Secrets(), n.Watch(), n.Write("failures")
	for _, step := range []struct {
		name string
		run  func(*testing.T, *Network)
	}{
		{"a pod is deleted", podDeleted},
		{"a process is killed", processKilled},
		{"a worker is drained", workerDrained},
		{"a volume is deleted with its pod", volumeDeleted},
		{"a volume is emptied under its claim", volumeEmptied},
		{"a key Secret and a pod lose their labels, and the genesis document is deleted", labelAndGenesisLost},
	} {
		begun := time.Now()
		if !t.Run(step.name, func(t *testing.T) { step.run(t, n.For(t)) }) {
			t.FailNow()
		}
		t.Logf("        %s: the longest time without a block was %.1f s", step.name, o.LongestGap(begun, time.Now()).Seconds())
	}
	l.Stop()
	t.Logf("        %v", l)
	o.Check(t, l)
	n.CheckSecrets(keys)
	t.Run("a quota forbids a pod", func(t *testing.T) { quotaRaised(t, refused.For(t)) })
}

// podRefused makes a network whose pod a quota forbids. Meanwhile the test does other things: the
// operator waits for two minutes before it calls that wrong.
func podRefused(t *testing.T) *Network {
	n := cluster.Network(t, cluster.Namespace(t, "quota"), "tight", 1)
	must(t, cluster.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "few", Namespace: n.Namespace},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
	}))
	n.Apply(n.Spec())
	return n
}

// quotaRaised takes the way out that docs/operations.md describes.
func quotaRaised(t *testing.T, n *Network) {
	n.awaitReason(v1alpha1.ConditionReady, "PodMissing")
	now, err := n.Resource(t.Context())
	must(t, err)
	for _, condition := range []string{v1alpha1.ConditionDegraded, v1alpha1.ConditionReady, v1alpha1.ConditionStalled} {
		c := meta.FindStatusCondition(now.Status.Conditions, condition)
		if c == nil || c.Reason != "PodMissing" || !strings.Contains(c.Message, "exceeded quota: few") || !strings.Contains(c.Message, "Raise the ResourceQuota") {
			t.Errorf("%s does not say what the API server said: %+v", condition, c)
		}
	}
	must(t, cluster.Delete(t.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "few", Namespace: n.Namespace}}))
	n.kubectl("annotate", "statefulset", n.ValidatorName(0), "retried=1")
	n.AwaitAvailable()
	n.Await(soon, v1alpha1.ConditionReady, metav1.ConditionTrue)
}

func podDeleted(t *testing.T, n *Network) {
	old := n.MustPod(0)
	must(t, n.Delete(t.Context(), old))
	n.AwaitNewPod(0, old)
	n.AwaitConverged()
}

// The status says what is gone and how to restore it; the commands are those of the documentation.
// Meanwhile a pod is deleted, and its successor waits for the document. A StatefulSet lets the pod
// go that lost its labels, and takes it back when it has them again.
func labelAndGenesisLost(t *testing.T, n *Network) {
	genesis := n.MustGenesis()
	n.kubectl("label", "secret", n.ValidatorName(1), "diseq.io/network-", "diseq.io/validator-")
	unlabelled := n.MustPod(3)
	n.kubectl("label", "pod", unlabelled.Name, "diseq.io/network-", "diseq.io/validator-", "diseq.io/role-")
	n.kubectl("delete", "configmap", n.Name+"-genesis")
	n.awaitReason(v1alpha1.ConditionProgressing, "RetainedGenesisMismatch")
	old := n.MustPod(0)
	must(t, n.Delete(t.Context(), old))
	Eventually(t, soon, "the labels are put back, and the others go on", func(ctx context.Context) error {
		var secret corev1.Secret
		if err := n.Get(ctx, n.key(n.ValidatorName(1)), &secret); err != nil {
			return err
		}
		d, err := n.Resource(ctx)
		if err != nil {
			return err
		}
		pod, err := n.Pod(ctx, 3)
		if err != nil {
			return err
		}
		if pod.UID != unlabelled.UID {
			t.Fatal("the pod that lost its labels was replaced")
		}
		if secret.Labels["diseq.io/network"] != n.Name || pod.Labels["diseq.io/role"] != "validator" || len(pod.OwnerReferences) != 1 ||
			!meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionAvailable) {
			return fmt.Errorf("labels %v and %v, owners %v, %s", secret.Labels, pod.Labels, pod.OwnerReferences, conditions(d))
		}
		return nil
	})

	file := filepath.Join(t.TempDir(), "genesis.json")
	document := n.kubectl("get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%d/proxy/v1/genesis", n.Namespace, n.PodName(2), publicPort))
	must(t, os.WriteFile(file, []byte(document), 0o600))
	n.kubectl("create", "configmap", n.Name+"-genesis", "--from-file="+file)
	n.AwaitNewPod(0, old)
	n.AwaitConverged()
	if restored := n.MustGenesis(); restored.Hash() != genesis.Hash() {
		t.Errorf("the genesis hash was %v, it is %v", genesis.Hash(), restored.Hash())
	}
}

// SIGKILL to the first process of a pod's namespace is ignored if it comes from inside; the worker
// sends it.
func processKilled(t *testing.T, n *Network) {
	pod := n.MustPod(1)
	n.Host(t, pod.Spec.NodeName, "kill", "-9", n.Process(t, pod, "diseq"))
	n.awaitRestartInPlace(t, 1, pod)
	n.AwaitConverged()
}

// awaitRestartInPlace waits until the container of a pod that was just killed runs again, in the
// same pod.
func (n *Network) awaitRestartInPlace(t *testing.T, k int, pod *corev1.Pod) {
	t.Helper()
	Eventually(t, soon, pod.Name+": its container was killed and runs again", func(ctx context.Context) error {
		now, err := n.Pod(ctx, k)
		if err != nil {
			return err
		}
		if now.UID != pod.UID {
			return errors.New("the pod was replaced, only its process was killed")
		}
		s := now.Status.ContainerStatuses[0]
		if last := s.LastTerminationState.Terminated; last == nil || last.ExitCode != 128+9 || s.RestartCount == 0 || !ready0(now) {
			return fmt.Errorf("%d restarts, now %s, before %s", s.RestartCount, state(s.State), state(s.LastTerminationState))
		}
		return nil
	})
}

// A volume of the cluster's own disks keeps its pod on its worker, so that the pod comes back when
// the worker does. No client of the Service is refused meanwhile.
func workerDrained(t *testing.T, n *Network) {
	worker, inside, outside := n.loneWorker(t)
	cordon(t, worker, true)
	t.Cleanup(func() { cordon(t, worker, false) })

	// Only after its PodDisruptionBudget says so: it counts pods that became ready with a delay.
	var budget policyv1.PodDisruptionBudget
	Eventually(t, soon, "the PodDisruptionBudget allows one disruption", func(ctx context.Context) error {
		if err := n.Get(ctx, n.key(n.Name), &budget); err != nil {
			return err
		}
		if budget.Status.DisruptionsAllowed != 1 || budget.Status.ObservedGeneration != budget.Generation {
			return fmt.Errorf("it allows %d", budget.Status.DisruptionsAllowed)
		}
		return nil
	})
	finish := n.load("drain")
	must(t, n.evict(t.Context(), inside))
	if err := n.evict(t.Context(), outside); !apierrors.IsTooManyRequests(err) {
		t.Errorf("a second eviction while the first pod is away: %v, want a refusal", err)
	} else {
		t.Logf("        the second eviction is refused: %v", err)
	}
	n.Finalize("while a worker is drained")
	Eventually(t, soon, "its new pod finds no worker, and the resource says so", func(ctx context.Context) error {
		d, err := n.Resource(ctx)
		if err != nil {
			return err
		}
		degraded := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionDegraded)
		if degraded == nil || degraded.Reason != "Unschedulable" || int(d.Status.ReadyValidators) != n.Validators-1 || d.Status.DisruptionsAllowed != 0 {
			return errors.New(conditions(d))
		}
		t.Logf("        %s", degraded.Message)
		return nil
	})
	cordon(t, worker, false)
	n.AwaitConverged()
	finish()
}

// loneWorker returns a worker with exactly one pod of the network, that pod, and a pod of another
// worker.
func (n *Network) loneWorker(t *testing.T) (worker string, inside, outside *corev1.Pod) {
	t.Helper()
	on := map[string][]*corev1.Pod{}
	for k := range n.Validators {
		pod := n.MustPod(k)
		on[pod.Spec.NodeName] = append(on[pod.Spec.NodeName], pod)
	}
	workers := slices.Sorted(maps.Keys(on))
	for _, w := range workers {
		if len(on[w]) == 1 && len(workers) > 1 {
			for _, other := range workers {
				if other != w {
					return w, on[w][0], on[other][0]
				}
			}
		}
	}
	t.Fatalf("the %d pods of %s are not spread over workers: %v", n.Validators, n.Name, workers)
	return "", nil, nil
}

func cordon(t *testing.T, worker string, unschedulable bool) {
	t.Helper()
	// also when the test's context has ended
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: worker}}
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, unschedulable)
	must(t, cluster.Patch(ctx, node, ctrl.RawPatch("application/merge-patch+json", patch)))
}

func (n *Network) evict(ctx context.Context, pod *corev1.Pod) error {
	return n.SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace}})
}

// The claim goes when no pod uses it any more; the operator makes another. On that volume the node
// must not make itself a vote store, for it has forgotten what it signed: it is Rejoining, and
// votes again when that is safe.
func volumeDeleted(t *testing.T, n *Network) {
	const k = 3
	timeline := n.Timeline()
	old, pod := &corev1.PersistentVolumeClaim{}, n.MustPod(k)
	must(t, n.Get(t.Context(), n.key(n.ValidatorName(k)), old))
	must(t, n.Delete(t.Context(), old))
	must(t, n.Delete(t.Context(), pod))
	Eventually(t, soon, n.ValidatorName(k)+" has another volume", func(ctx context.Context) error {
		now, err := n.Volume(ctx, k)
		if err == nil && now.UID == old.UID {
			err = errors.New("the old claim is still there")
		}
		return err
	})
	n.AwaitNewPod(k, pod)
	n.AwaitConverged()
	timeline.stop()
	timeline.Log(t)
	if phases := timeline.Phases(n.ValidatorName(k)); !ordered(phases, v1alpha1.MemberValidator, v1alpha1.MemberRejoining, v1alpha1.MemberValidator) {
		t.Errorf("%s was %v, want it Rejoining in between", n.ValidatorName(k), phases)
	}
	log := n.log(t.Context(), n.MustPod(k), false)
	if !strings.Contains(log, "no vote store") || strings.Contains(log, "creating the vote store") || strings.Contains(log, "first start") {
		t.Errorf("%s did not start on the new volume as a validator that lost its vote store:\n%s", n.PodName(k), log)
	}
	if command := fmt.Sprint(n.MustPod(k).Spec.Containers[0].Command, n.MustPod(k).Spec.Containers[0].Args); strings.Contains(command, "create-vote-store") {
		t.Errorf("on a second volume the node is started with %s", command)
	}
	var secret corev1.Secret
	must(t, n.Get(t.Context(), n.key(n.ValidatorName(k)), &secret))
	if first := secret.Annotations["diseq.io/first-volume"]; first != string(old.UID) {
		t.Errorf("the first volume of %s is recorded as %q, it was %s", n.ValidatorName(k), first, old.UID)
	}
}

// Somebody empties the disk under a claim that stays, and the kubelet starts the container again,
// with all the arguments that it had: the claim is the validator's first one still. The node must
// not make itself a second vote store.
func volumeEmptied(t *testing.T, n *Network) {
	const k = 0
	pod := n.MustPod(k)
	if !slices.Contains(pod.Spec.Containers[0].Args, "--create-vote-store") {
		t.Fatalf("%s is not on its validator's first volume: %v", pod.Name, pod.Spec.Containers[0].Args)
	}
	claim, err := n.Volume(t.Context(), k)
	must(t, err)
	volume := &corev1.PersistentVolume{}
	must(t, n.Get(t.Context(), ctrl.ObjectKey{Name: claim.Spec.VolumeName}, volume))
	var path string
	switch s := volume.Spec; {
	case s.HostPath != nil:
		path = s.HostPath.Path
	case s.Local != nil:
		path = s.Local.Path
	default:
		t.Skipf("SKIPPED: %s is no directory of a worker", volume.Name)
	}
	timeline := n.Timeline()
	// It stands still first: what it wrote after its files were gone would make the volume look
	// used.
	n.Host(t, pod.Spec.NodeName, "sh", "-c",
		fmt.Sprintf("kill -STOP %[1]s && find '%[2]s' -mindepth 1 -delete; kill -9 %[1]s", n.Process(t, pod, "diseq"), path))
	n.awaitRestartInPlace(t, k, pod)
	n.AwaitConverged()
	timeline.stop()
	timeline.Log(t)
	if phases := timeline.Phases(n.ValidatorName(k)); !ordered(phases, v1alpha1.MemberValidator, v1alpha1.MemberRejoining, v1alpha1.MemberValidator) {
		t.Errorf("%s was %v, want it Rejoining in between", n.ValidatorName(k), phases)
	}
	if log := n.log(t.Context(), n.MustPod(k), false); !strings.Contains(log, "not creating a new one") || strings.Contains(log, "first start") {
		t.Errorf("%s did not start on the emptied volume as a validator that lost its vote store:\n%s", n.PodName(k), log)
	}
}

// ordered reports whether want are among got, in that order.
func ordered[T comparable](got []T, want ...T) bool {
	for _, g := range got {
		if len(want) > 0 && g == want[0] {
			want = want[1:]
		}
	}
	return len(want) == 0
}
