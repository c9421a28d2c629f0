package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// A network with the synchrony wait orders messages, also with one pod less, and reports the wait
// everywhere: in the resource, at the nodes and in the verification of a receipt.
func TestANetworkWithTheSynchronyWaitOrdersMessagesAndTellsOfIt(t *testing.T) {
	// validators that share a machine with a test stand still at times
	const delta = 500 * time.Millisecond
	n := cluster.Network(t, cluster.Namespace(t, "synchrony"), "waits", 4)
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) {
		s.Consensus.Synchrony = &v1alpha1.Synchrony{Delta: metav1.Duration{Duration: delta}}
	}))
	n.AwaitAvailable()
	o := n.Watch()
	begun := time.Now()
	first := n.Finalize("with the synchrony wait")
	if took := time.Since(begun); took <= 2*delta {
		t.Errorf("final after %v, want more than %v", took, 2*delta)
	}
	// available is a network with a quorum: the last validator may only be starting
	o.Receipt(t, first)
	d, err := n.Resource(t.Context())
	must(t, err)
	if got := d.Status.SynchronyDelta; got == nil || got.Duration != delta || d.Status.Tolerance.ByzantineWithSynchrony != 2 {
		t.Errorf("the status says Delta %v, tolerance %+v", got, d.Status.Tolerance)
	}
	var status *client.Status
	Eventually(t, soon, n.PodName(1)+" tells its status", func(ctx context.Context) (err error) {
		status, err = n.Node(1).Status(ctx)
		return err
	})
	if s := status.Synchrony; s == nil || s.DeltaMS != uint32(delta.Milliseconds()) {
		t.Errorf("/v1/status says %+v of the wait", s)
	}

	old := n.MustPod(0)
	must(t, n.Delete(t.Context(), old))
	receipt := n.Finalize("with one validator less")
	// With the signatures of all validators there is nothing left for the wait to add.
	receipt.Certificate.Strength = 3
	receipt.Certificate.Votes = receipt.Certificate.Votes[:3]
	told := n.verify(receipt)
	if want := fmt.Sprintf("within %d ms, by the synchrony wait", delta.Milliseconds()); !strings.Contains(told, want) {
		t.Errorf("diseq verify does not tell of %q: %s", want, told)
	}
	n.AwaitNewPod(0, old)
	n.AwaitAvailable() // a validator that stands still once a minute is never shown as well
	o.Receipt(t, receipt)
	n.Finalize("with all of them again")
	o.Check(t)

	// It cannot be turned off.
	if err := n.TryApply(t.Context(), n.Spec()); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "part of the genesis document") {
		t.Errorf("taking the wait away: %v", err)
	}
}

// verify runs `diseq verify` on a receipt in a pod, with the genesis document of the cluster, and
// returns what it printed.
func (n *Network) verify(receipt *chain.Receipt) string {
	n.tb.Helper()
	text, err := json.Marshal(receipt)
	must(n.tb, err)
	document := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name + "-receipt", Namespace: n.Namespace}, Data: map[string]string{"receipt.json": string(text)},
	}
	must(n.tb, n.Create(n.tb.Context(), document))
	pod := n.clientPod(n.Namespace, n.Name+"-verify", "verify", "/receipt/receipt.json", "--genesis", "/genesis/genesis.json")
	container := &pod.Spec.Containers[0]
	for at, name := range map[string]string{"receipt": document.Name, "genesis": n.Name + "-genesis"} {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: at, VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
		}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: at, MountPath: "/" + at})
	}
	out, ok := n.runPod(n.tb, pod)
	if !ok {
		n.tb.Fatalf("diseq verify in a pod failed: %s", out)
	}
	return out
}
