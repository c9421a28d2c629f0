package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/test/documents"
	"github.com/diseq/diseq/test/integration/harness"
)

// shell runs a command of the documents in a folder, as a person does whose context is the
// namespace of the cluster.
func (c *cluster) shell(folder, command string) (string, error) {
	c.t.Helper()
	text, err := os.ReadFile(harness.Kubeconfig())
	if err != nil {
		c.t.Fatal(err)
	}
	config := filepath.Join(c.t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
	script := fmt.Sprintf("kubectl config set-context --current --namespace=%s >/dev/null\n%s", c.namespace, command)
	shell := exec.CommandContext(c.t.Context(), "sh", "-c", script)
	shell.Dir = folder
	shell.Env = append(os.Environ(), "KUBECONFIG="+config, "HOME="+filepath.Dir(config), "KUBECTL_KUBERC=false",
		"PATH="+os.Getenv("KUBEBUILDER_ASSETS")+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := shell.CombinedOutput()
	return string(out), err
}

// backup are the two commands of docs/operations.md.
func backup(t *testing.T) (save, restore string) {
	t.Helper()
	commands, err := documents.Commands(harness.Path(t, "docs/operations.md"), "### Keys are backed up and restored")
	if err != nil {
		t.Fatal(err)
	}
	if len(commands) != 2 {
		t.Fatalf("docs/operations.md has %d commands for the backup, want 2: %q", len(commands), commands)
	}
	return commands[0], commands[1]
}

// material is what is in the key Secrets, by name.
func (c *cluster) material() map[string]string {
	c.t.Helper()
	secrets := &corev1.SecretList{}
	if err := c.client.List(c.t.Context(), secrets, c.in()); err != nil {
		c.t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range secrets.Items {
		out[s.Name] = fmt.Sprintf("%x", s.Data)
	}
	return out
}

// The keys and the genesis document of a network are saved and restored by the commands of
// docs/operations.md as they stand there. Objects that are there are not touched. Those that are
// gone come back with their records, so that no vote store is made twice, on whatever volume.
//
// Promise 57.
// Promise 58.
func TestKeysAreRestoredFromTheBackup(t *testing.T) {
	save, restore := backup(t)
	folder := t.TempDir()
	c := newCluster(t)
	// With Delete the objects have owners, by which a copy would be deleted again.
	c.apply("demo", deleting(v1alpha1.DeletePolicy))
	o := newOperator(t, c)
	born := o.settle("demo")
	keys := c.material()
	if out, err := c.shell(folder, save); err != nil || out != "" {
		t.Fatalf("saving: %v: %s", err, out)
	}
	file := filepath.Join(folder, "demo-keys.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the backup: %v, %v", info.Mode(), err)
	}
	for _, never := range []string{"uid:", "resourceVersion", "ownerReferences", "namespace:", "creationTimestamp", "diseq.io/applied", "no value", "demo-peers", "demo-config"} {
		if strings.Contains(string(text), never) {
			t.Errorf("the backup has %q:\n%s", never, text)
		}
	}

	t.Run("a Secret is gone", func(t *testing.T) {
		claims := c.claims()
		c.delete(&corev1.Secret{}, "demo-v2")
		o.until("demo", "degraded by the key", func(n *v1alpha1.DiseqNetwork) bool {
			return condition(n, v1alpha1.ConditionDegraded).Reason == "KeyMissing"
		})
		out, err := c.shell(folder, restore)
		if err == nil || !strings.Contains(out, "secret/demo-v2 created") || strings.Count(out, "AlreadyExists") != 4 {
			t.Errorf("restoring: %v: %s", err, out)
		}
		o.settle("demo")
		secret := &corev1.Secret{}
		c.get("demo-v2", secret)
		if first := secret.Annotations["diseq.io/first-volume"]; first != string(claims["demo-v2"]) || !resources.MadeVoteStore(secret) || len(secret.OwnerReferences) != 1 {
			t.Errorf("the Secret came back as %+v", secret.ObjectMeta)
		}
		for name, was := range keys {
			if c.material()[name] != was {
				t.Errorf("Secret %s has another key", name)
			}
		}
		for name, was := range claims {
			if c.claims()[name] != was {
				t.Errorf("claim %s is another one", name)
			}
		}
		if len(c.names(&corev1.PodList{})) != 4 {
			t.Errorf("pods %v", c.names(&corev1.PodList{}))
		}
	})

	t.Run("a Secret and its volume are gone", func(t *testing.T) {
		c.delete(&corev1.Secret{}, "demo-v1")
		c.delete(&corev1.PersistentVolumeClaim{}, "demo-v1")
		c.delete(&corev1.Pod{}, "demo-v1-0")
		for range 5 {
			o.reconcile("demo")
			c.step(t.Context())
		}
		if out, _ := c.shell(folder, restore); !strings.Contains(out, "secret/demo-v1 created") {
			t.Errorf("restoring: %s", out)
		}
		rejoined := false
		o.until("demo", "well again", func(n *v1alpha1.DiseqNetwork) bool {
			rejoined = rejoined || member(n, "demo-v1").Phase == v1alpha1.MemberRejoining
			return settled(n) && rejoined
		})
	})

	t.Run("all but the volumes is gone", func(t *testing.T) {
		away := c.restoreElsewhere(t, folder, restore, true)
		o := newOperator(t, away)
		away.apply("demo")
		rejoined := false
		n := o.until("demo", "settled", func(n *v1alpha1.DiseqNetwork) bool {
			for _, m := range n.Status.Members {
				rejoined = rejoined || m.Phase == v1alpha1.MemberRejoining
			}
			return settled(n)
		})
		if n.Status.ChainID != born.Status.ChainID || rejoined {
			t.Errorf("chain %s, was %s; a validator had to rejoin: %v", n.Status.ChainID, born.Status.ChainID, rejoined)
		}
		if len(away.made) > 0 {
			t.Errorf("vote stores were made: %v", away.made)
		}
	})

	t.Run("everything is gone", func(t *testing.T) {
		away := c.restoreElsewhere(t, folder, restore, false)
		away.rejoins = false // nobody is left whose word counts
		o := newOperator(t, away)
		away.apply("demo")
		n := o.until("demo", "waiting in vain", func(n *v1alpha1.DiseqNetwork) bool {
			for _, m := range n.Status.Members {
				if m.Phase != v1alpha1.MemberRejoining {
					return false
				}
			}
			return len(n.Status.Members) == 4 && condition(n, v1alpha1.ConditionDegraded).Status == metav1.ConditionTrue
		})
		if a := condition(n, v1alpha1.ConditionAvailable); a.Status != metav1.ConditionFalse {
			t.Errorf("Available %+v", a)
		}
		if len(away.made)+len(away.statements) > 0 {
			t.Errorf("vote stores were made: %v, or might be: %v", away.made, away.statements)
		}
	})
	c.checkStatements()
}

// restoreElsewhere is another namespace with the keys of the backup, and with the volumes of this
// cluster if they go along.
func (c *cluster) restoreElsewhere(t *testing.T, folder, restore string, volumes bool) *cluster {
	t.Helper()
	away := newCluster(t)
	away.height, away.removed = c.height, true
	if out, err := away.shell(folder, restore); err != nil {
		t.Fatalf("restoring: %v: %s", err, out)
	}
	if !volumes {
		return away
	}
	for name, uid := range c.claims() {
		claim := &corev1.PersistentVolumeClaim{}
		c.get(name, claim)
		moved := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
			Namespace: away.namespace, Name: name, Labels: map[string]string{"diseq.io/network": "demo"},
		}, Spec: claim.Spec}
		moved.Spec.VolumeName = "volume-of-" + name
		if err := away.client.Create(t.Context(), moved); err != nil {
			t.Fatal(err)
		}
		if c.disks[uid] == nil {
			t.Fatalf("%s has no disk", name)
		}
		away.disks[moved.UID] = c.disks[uid]
	}
	return away
}

// A key whose records say that its validator ran is not the key of a new chain, also if the record
// of its first volume is missing.
//
// Promise 57.
func TestARestoredKeyBeginsNoSecondChain(t *testing.T) {
	save, restore := backup(t)
	folder := t.TempDir()
	c := newCluster(t)
	c.apply("demo")
	newOperator(t, c).settle("demo")
	secret := &corev1.Secret{}
	c.get("demo-v0", secret)
	delete(secret.Annotations, "diseq.io/first-volume")
	if err := c.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if out, err := c.shell(folder, save); err != nil {
		t.Fatalf("saving: %v: %s", err, out)
	}
	away := newCluster(t)
	if out, err := away.shell(folder, restore+"\nkubectl delete configmap demo-genesis\nkubectl delete secret demo-v1 demo-v2 demo-v3"); err != nil {
		t.Fatalf("restoring: %v: %s", err, out)
	}
	away.removed = true
	away.apply("demo")
	o := newOperator(t, away)
	o.until("demo", "refused", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionDegraded).Reason == "RetainedGenesisMismatch"
	})
	if len(away.keys()) != 1 {
		t.Errorf("keys were made for a second chain: %v", away.keys())
	}
}
