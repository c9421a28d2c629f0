package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/test/documents"
)

// documented are the commands of a section of docs/operations.md, for this network instead of demo.
func (n *Network) documented(heading string) []string {
	n.tb.Helper()
	commands, err := documents.Commands(root("docs", "operations.md"), heading)
	must(n.tb, err)
	for i := range commands {
		commands[i] = strings.ReplaceAll(commands[i], "demo", n.Name)
	}
	return commands
}

// shell runs commands as a person does whose context is the namespace of the network.
func (n *Network) shell(folder, commands string) (string, error) {
	n.tb.Helper()
	text, err := os.ReadFile(os.Getenv("KUBECONFIG"))
	must(n.tb, err)
	config := filepath.Join(n.tb.TempDir(), "kubeconfig")
	must(n.tb, os.WriteFile(config, text, 0o600))
	script := fmt.Sprintf("kubectl config set-context --current --namespace=%s >/dev/null\n%s", n.Namespace, commands)
	shell := exec.CommandContext(n.tb.Context(), "sh", "-c", script)
	shell.Dir, shell.Env = folder, append(os.Environ(), "KUBECONFIG="+config)
	out, err := shell.CombinedOutput()
	return string(out), err
}

// mustShell runs commands that have to succeed.
func (n *Network) mustShell(folder, commands string) {
	n.tb.Helper()
	if out, err := n.shell(folder, commands); err != nil {
		n.tb.Fatalf("%v: %s\n%s", err, commands, out)
	}
}

// A network with the longest name in the namespace with the longest name: its keys are saved, one
// is deleted and restored, its validator is restarted with kubectl. Then the network hibernates,
// moves to another namespace with its volumes and its keys, and goes on there with the same chain.
// All commands are those of docs/operations.md.
func TestANetworkIsRestoredHibernatedAndMoved(t *testing.T) {
	long := strings.Repeat("x", 63-len("e2e--12345"))
	n := cluster.Network(t, cluster.Namespace(t, long), strings.Repeat("long", 10), 3)
	n.Apply(n.Spec())
	n.AwaitAvailable()
	n.AwaitConverged()
	o, l, keys, folder := n.Watch(), n.Write("life"), n.Secrets(), t.TempDir()
	backup := n.documented("### Keys are backed up and restored")
	save, restore := backup[0], backup[1]
	n.mustShell(folder, save)

	n.kubectl("delete", "secret", n.ValidatorName(2))
	n.awaitReason(v1alpha1.ConditionProgressing, "KeyMissing")
	if out, err := n.shell(folder, restore); err == nil || !strings.Contains(out, "secret/"+n.ValidatorName(2)+" created") {
		t.Errorf("restoring: %v: %s", err, out)
	}
	old := n.MustPod(2)
	n.kubectl("rollout", "restart", "statefulset", n.ValidatorName(2))
	n.AwaitNewPod(2, old)
	n.AwaitConverged()
	for k, now := range n.Secrets() {
		if now.Digest != keys[k].Digest {
			t.Errorf("the keys of %s are other ones than before", n.ValidatorName(k))
		}
	}
	receipt := n.Finalize("before the network hibernates")
	l.Stop()
	t.Logf("        %v", l)
	o.Check(t, l)
	height := o.Highest()
	o.stopRead()

	hibernation := n.documented("### A network is hibernated")
	n.mustShell(folder, hibernation[0])
	d, err := n.Resource(t.Context())
	must(t, err)
	if a := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionAvailable); a.Reason != "Hibernated" {
		t.Errorf("hibernated: %s", conditions(d))
	}
	must(t, n.none(t.Context(), &corev1.PodList{}))

	away := n.move(folder, restore)
	away.AwaitAvailable()
	away.AwaitConverged()
	moved := away.Watch()
	if later := away.Finalize("in its new place"); later.Height <= height {
		t.Errorf("the chain ended at height %d, a new message is at %d", height, later.Height)
	}
	moved.Receipt(t, receipt)
	moved.Check(t, l)
	after, err := away.Resource(t.Context())
	must(t, err)
	if after.Status.ChainID != d.Status.ChainID {
		t.Errorf("the chain was %s, it is %s", d.Status.ChainID, after.Status.ChainID)
	}
	for _, m := range after.Status.Members {
		if m.Phase != v1alpha1.MemberValidator {
			t.Errorf("%s came with its votes, and is %s", m.Name, m.Phase)
		}
	}
}

// move takes a hibernated network to another namespace, as docs/operations.md says.
func (n *Network) move(folder, restore string) *Network {
	n.tb.Helper()
	claim := n.documented("### A network moves")[0]
	away := n.Cluster.Network(n.tb, n.Cluster.Namespace(n.tb, "moved"), n.Name, n.Validators)
	var claims []corev1.PersistentVolumeClaim
	for k := range n.Validators {
		c, err := n.Volume(n.tb.Context(), k)
		must(n.tb, err)
		claims = append(claims, *c)
		n.kubectl("patch", "pv", c.Spec.VolumeName, "-p", `{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`)
	}
	n.kubectl("delete", "dsq", n.Name, "--timeout=1m")
	n.kubectl("delete", "secret,pvc,configmap", "-l", "diseq.io/network="+n.Name, "--timeout=1m")
	for k, c := range claims {
		volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: c.Spec.VolumeName}}
		Eventually(n.tb, soon, volume.Name+" is released", func(ctx context.Context) error {
			if err := n.Get(ctx, ctrl.ObjectKeyFromObject(volume), volume); err != nil {
				return err
			}
			if volume.Status.Phase != corev1.VolumeReleased {
				return fmt.Errorf("it is %s", volume.Status.Phase)
			}
			return nil
		})
		n.kubectl("patch", "pv", volume.Name, "--type=json", "-p", `[{"op":"remove","path":"/spec/claimRef"}]`)
		request := c.Spec.Resources.Requests[corev1.ResourceStorage]
		text := strings.NewReplacer(n.ValidatorName(0), n.ValidatorName(k), "VOLUME", volume.Name, "CLASS", *c.Spec.StorageClassName,
			"10Gi", request.String()).Replace(claim)
		must(n.tb, os.WriteFile(filepath.Join(folder, "claim.yaml"), []byte(text), 0o600))
		away.mustShell(folder, "kubectl create -f claim.yaml")
	}
	away.mustShell(folder, restore)
	away.removed = true // from the place before
	away.Apply(away.Spec())
	n.tb.Cleanup(func() {
		// also when the test's context has ended: nothing else takes the volumes away
		for _, c := range claims {
			_ = exec.Command("kubectl", "patch", "pv", c.Spec.VolumeName, "-p", `{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`).Run()
		}
	})
	return away
}
