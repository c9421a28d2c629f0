package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/internal/clientcmd"
)

var update = flag.Bool("update", false, "write the screens")

func member(n *v1alpha1.DiseqNetwork, i int, phase v1alpha1.MemberPhase, height int64, reason string) {
	m := &n.Status.Members[i]
	m.Phase, m.Height, m.Ready, m.Reason = phase, height, false, reason
}

// Each screen is in testdata/status: go test ./cmd/kubectl-diseq -run Screens -update writes them.
func TestScreens(t *testing.T) {
	workers := map[string]string{"demo-v0": "worker-1", "demo-v1": "worker-1", "demo-v2": "worker-2", "demo-v3": "worker-3"}
	for name, change := range map[string]func(n *v1alpha1.DiseqNetwork){
		"healthy": func(*v1alpha1.DiseqNetwork) {},
		"one-behind": func(n *v1alpha1.DiseqNetwork) {
			member(n, 2, v1alpha1.MemberValidator, 1100, "is 134 heights behind")
			n.Status.ReadyValidators, n.Status.DisruptionsAllowed = 3, 0
			text := "3 of 4 validators are ready and caught up, threshold 3: demo-v2 is 134 heights behind"
			condition(n, v1alpha1.ConditionAvailable, metav1.ConditionTrue, status.ThresholdReady, text)
			condition(n, v1alpha1.ConditionDegraded, metav1.ConditionTrue, status.Behind, "demo-v2 is 134 heights behind")
			condition(n, v1alpha1.ConditionQuorumHealthy, metav1.ConditionFalse, status.NoSpareValidator,
				"one more failure stops the chain: demo-v2 is 134 heights behind")
		},
		"changing": func(n *v1alpha1.DiseqNetwork) {
			n.Generation, n.Status.ObservedGeneration = 2, 2
			n.Spec.Retire = []string{"demo-v2"}
			n.Status.Change = "endorsed 2/3"
			n.Status.Members[2].Phase = v1alpha1.MemberLeaving
			n.Status.Members = append(n.Status.Members, v1alpha1.Member{Name: "demo-v4", Phase: v1alpha1.MemberReady, Height: 1233},
				v1alpha1.Member{Name: "demo-v5", Phase: v1alpha1.MemberRetired, Height: 12})
			condition(n, v1alpha1.ConditionProgressing, metav1.ConditionTrue, status.ChangingSet, "the set of validators is being changed")
			condition(n, v1alpha1.ConditionMembershipChanging, metav1.ConditionTrue, status.WaitingForBlock,
				"demo-v4 takes the place of demo-v2: 2 of 3 validators have endorsed the next set")
		},
		"no-quorum": func(n *v1alpha1.DiseqNetwork) {
			member(n, 2, v1alpha1.MemberValidator, 1234, "has no pod")
			member(n, 3, v1alpha1.MemberRejoining, 1200, "has lost its vote store")
			n.Status.ReadyValidators, n.Status.DisruptionsAllowed = 2, 0
			n.Status.FinalizedTime = &metav1.Time{Time: now.Add(-10 * time.Minute)}
			n.Status.SynchronyDelta = &metav1.Duration{Duration: 200 * time.Millisecond}
			n.Status.FailureDomains.Machines = &v1alpha1.FailureDomain{InUse: 2}
			text := "nothing becomes final until 1 more are ready: 2 of 4 validators are ready and caught up, threshold 3: demo-v2 has no pod, " +
				"demo-v3 has lost its vote store"
			condition(n, v1alpha1.ConditionAvailable, metav1.ConditionFalse, status.QuorumLost, text)
			condition(n, v1alpha1.ConditionQuorumHealthy, metav1.ConditionFalse, status.QuorumLost, text)
			condition(n, v1alpha1.ConditionProgressing, metav1.ConditionTrue, status.StartingPods, "waiting for the pod of demo-v2")
			condition(n, v1alpha1.ConditionDegraded, metav1.ConditionTrue, status.PodMissing, "nobody has made the pod of demo-v2 for 2m")
			condition(n, v1alpha1.ConditionEvidenceFound, metav1.ConditionTrue, status.ValidatorsMisbehaved, "demo-v0 has 1 piece of evidence")
		},
		"paused": func(n *v1alpha1.DiseqNetwork) {
			n.Generation = 3
			n.Status.LastObserved = &metav1.Time{Time: now.Add(-9 * time.Minute)}
			n.Spec.Paused, n.Spec.Validators = true, 7
			condition(n, v1alpha1.ConditionProgressing, metav1.ConditionFalse, status.Paused, "spec.paused is true: nothing is changed until it is false")
			condition(n, v1alpha1.ConditionMembershipChanging, metav1.ConditionFalse, status.Paused,
				"spec.paused is true: the set stays at 4 validators, 7 are asked for")
		},
		"access-not-ready": func(n *v1alpha1.DiseqNetwork) {
			n.Generation = 2
			condition(n, v1alpha1.ConditionAccessReady, metav1.ConditionFalse, status.AccessStarting,
				"1 of 4 nodes do not admit clients as spec.access has it yet: demo-v3 was not restarted with it")
		},
		"not-seen-yet": func(n *v1alpha1.DiseqNetwork) { n.Status = v1alpha1.DiseqNetworkStatus{ObservedGeneration: -1} },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", "status", name+".txt")
			got := screen(network(change), workers, now)
			if *update {
				must(t, os.WriteFile(file, []byte(got), 0o600))
			}
			want, err := os.ReadFile(file)
			must(t, err)
			if got != string(want) {
				t.Errorf("the screen is\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Pods say on which worker each validator is. Users without the right to list them see the rest.
func TestTheScreenOfAUserWithoutTheRightToPods(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, network(), pod(0, "worker-9", nil))
	if out := w.succeeds("status"); !strings.Contains(out, "worker-9") {
		t.Errorf("status says %s", out)
	}
	w = newWorld(t, refuse("pods"), network(), pod(0, "worker-9", nil))
	if out := w.succeeds("status"); strings.Contains(out, "worker-9") || !strings.Contains(out, "demo-v0   Validator   yes") {
		t.Errorf("status says %s", out)
	}
}

// Watch draws a network whenever its resource has changed, and ends with it.
func TestWatchFollowsTheNetwork(t *testing.T) {
	looks := 0
	w := newWorld(t, interceptor.Funcs{Get: func(
		ctx context.Context, c ctrl.WithWatch, key ctrl.ObjectKey, o ctrl.Object, options ...ctrl.GetOption,
	) error {
		n, ok := o.(*v1alpha1.DiseqNetwork)
		if !ok {
			return c.Get(ctx, key, o, options...)
		}
		looks++
		switch looks {
		case 5: // after three looks at which nothing has changed
			stored := network()
			must(t, c.Get(ctx, key, stored))
			stored.Status.Height = 1235
			must(t, c.Status().Update(ctx, stored))
		case 8:
			must(t, c.Delete(ctx, network()))
		}
		return c.Get(ctx, key, n, options...)
	}}, network())
	o := w.run("", "status", "demo", "--watch")
	if strings.Count(o.stdout, "demo in chain") != 2 || !strings.Contains(o.stdout, "block 1235") || !strings.Contains(o.stderr, "not found") {
		t.Errorf("%+v", o)
	}
	if strings.Contains(o.stdout, clearScreen) {
		t.Error("a file gets the control characters of a terminal")
	}
}

// Programs read the resource and the workers, and each change of it with --watch.
func TestProgramsReadTheStatus(t *testing.T) {
	var seen shown
	w := newWorld(t, interceptor.Funcs{}, network(), pod(0, "worker-9", nil))
	must(t, json.Unmarshal([]byte(w.succeeds("status", "-o", "json")), &seen))
	if seen.Network.Kind != "DiseqNetwork" || seen.Network.Status.Height != 1234 || seen.Workers["demo-v0"] != "worker-9" {
		t.Errorf("status is %+v", seen)
	}
	var again shown
	must(t, yaml.Unmarshal([]byte(w.succeeds("status", "demo", "-o", "yaml")), &again))
	if !reflect.DeepEqual(seen, again) {
		t.Errorf("YAML has\n%+v\nJSON has\n%+v", again, seen)
	}
	w.fails(clientcmd.ExitUsage, []string{`"xml"`, "want table, json or yaml"}, "status", "-o", "xml")
	if out := w.succeeds(cobra.ShellCompNoDescRequestCmd, "status", "-o", ""); !strings.HasPrefix(out, "table\njson\nyaml\n") {
		t.Errorf("the completions are %q", out)
	}
	if out := w.succeeds("version", "-o", "yaml"); !strings.Contains(out, "protocol: ") {
		t.Errorf("version is %q", out)
	}

	looks := 0
	w = newWorld(t, interceptor.Funcs{Get: func(
		ctx context.Context, c ctrl.WithWatch, key ctrl.ObjectKey, o ctrl.Object, options ...ctrl.GetOption,
	) error {
		if _, ok := o.(*v1alpha1.DiseqNetwork); ok {
			if looks++; looks > 3 {
				return errors.New("that is enough")
			}
		}
		return c.Get(ctx, key, o, options...)
	}}, network())
	w.app.terminal = true
	o := w.run("", "status", "demo", "--watch", "-o", "json")
	if strings.Count(o.stdout, "\n") != 1 || !json.Valid([]byte(o.stdout)) || !strings.Contains(o.stderr, "that is enough") {
		t.Errorf("%+v", o)
	}
}
