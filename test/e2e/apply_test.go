package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/node/chain"
)

// availableWithin is what the project promises of a network that is applied.
const availableWithin = 2 * time.Minute

// The sample is a network that a user can rely on, and kubectl diseq shows, uses and repairs it.
func TestTheSampleIsAvailableWithinTwoMinutesAndOrdersMessages(t *testing.T) {
	text, err := os.ReadFile(root("config", "samples", "v1alpha1_diseqnetwork.yaml"))
	must(t, err)
	sample := &unstructured.Unstructured{}
	must(t, yaml.Unmarshal(text, sample))
	sample.SetNamespace(cluster.Namespace(t, "sample"))
	must(t, cluster.Apply(t.Context(), ctrl.ApplyConfigurationFromUnstructured(sample), ctrl.FieldOwner("e2e")))
	n := cluster.Network(t, sample.GetNamespace(), sample.GetName(), 4)
	n.Await(availableWithin, v1alpha1.ConditionAvailable, metav1.ConditionTrue)
	o := n.Watch()

	receipt := n.Finalize("through the proxy")
	inCluster, err := chain.ReadReceipt(strings.NewReader(n.Submit("from a pod")))
	must(t, err)
	must(t, inCluster.Verify(n.MustGenesis(), 0))
	n.AwaitConverged()
	o.Receipt(t, receipt)
	o.Receipt(t, inCluster)
	o.Check(t)
	n.checkColumns(t)
	o.stopRead() // a validator leaves
	n.checkPlugin(t)
}

// checkColumns holds `kubectl get dsq` to what is the case: it is the first thing that a user looks
// at.
func (n *Network) checkColumns(t *testing.T) {
	t.Helper()
	Eventually(t, soon, n.Name+" shows its height, with all ready", func(ctx context.Context) error {
		d, err := n.Resource(ctx)
		if err == nil && (d.Status.Height == 0 || d.Status.FinalizedTime == nil || int(d.Status.ReadyValidators) != n.Validators) {
			err = fmt.Errorf("height %d, final at %v, %d ready", d.Status.Height, d.Status.FinalizedTime, d.Status.ReadyValidators)
		}
		return err
	})
	table := &metav1.Table{}
	request, err := cluster.table(t.Context(), fmt.Sprintf("/apis/%s/namespaces/%s/diseqnetworks/%s", v1alpha1.GroupVersion, n.Namespace, n.Name))
	must(t, err)
	must(t, yaml.Unmarshal(request, table))
	got := map[string]string{}
	for i, column := range table.ColumnDefinitions {
		got[column.Name] = fmt.Sprint(table.Rows[0].Cells[i])
	}
	d, err := n.Resource(t.Context())
	must(t, err)
	threshold := d.Spec.Threshold.ThresholdOf(d.Spec.Validators)
	for column, want := range map[string]string{
		"Validators": fmt.Sprint(n.Validators), "Threshold": fmt.Sprint(threshold), "Ready": fmt.Sprint(n.Validators),
		"Tolerates": fmt.Sprint(int32(n.Validators) - threshold), "Available": "True",
		"Reason": "AllValidatorsReady", "Degraded": "AsExpected",
	} {
		if got[column] != want {
			t.Errorf("kubectl get dsq shows %s %q, want %q", column, got[column], want)
		}
	}
	t.Logf("        kubectl get dsq: %v", got)
}

func TestABadImageIsToldAndThenMended(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "image"), "mended", 3)
	// An image with another program, which ends at once. Its last words say why.
	pods, err := cluster.OperatorPods(t.Context())
	must(t, err)
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) { s.Image = pods[0].Spec.Containers[0].Image }))
	const words = "diseq-operator: unknown "
	Eventually(t, soon, "the resource and an event have the last words of the program", func(ctx context.Context) error {
		d, err := n.Resource(ctx)
		if err != nil {
			return err
		}
		if told := conditions(d); !strings.Contains(told, "CrashLooping") || !strings.Contains(told, words) {
			return fmt.Errorf("it says %s", told)
		}
		if events := cluster.events(ctx, n.Namespace); !strings.Contains(events, "Warning CrashLooping DiseqNetwork/"+n.Name+": ") ||
			!strings.Contains(events, words) {
			return fmt.Errorf("the events are %s", events)
		}
		return nil
	})

	const bad = "diseq:no-such-version"
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) { s.Image, s.ImagePullPolicy = bad, corev1.PullIfNotPresent }))
	Eventually(t, soon, "the resource names the image that cannot be pulled", func(ctx context.Context) error {
		d, err := n.Resource(ctx)
		if err != nil {
			return err
		}
		if told := conditions(d); !strings.Contains(told, bad) && !strings.Contains(told, "ImagePull") && !strings.Contains(told, "ErrImage") {
			return fmt.Errorf("it says %s", told)
		}
		return nil
	})
	d, err := n.Resource(t.Context())
	must(t, err)
	t.Logf("        %s", conditions(d))
	keys := n.Secrets()
	n.Apply(n.Spec())
	n.AwaitAvailable()
	o := n.Watch()
	n.Finalize("with the right image")
	n.AwaitConverged()
	o.Check(t)
	n.CheckSecrets(keys)
}

func TestBadSpecsAreRefusedWithWhatIsAllowed(t *testing.T) {
	namespace := cluster.Namespace(t, "refused")
	fixed := func(value int32) func(*v1alpha1.DiseqNetworkSpec) {
		return func(s *v1alpha1.DiseqNetworkSpec) {
			s.Threshold = v1alpha1.Threshold{Policy: v1alpha1.ThresholdFixed, Value: &value}
		}
	}
	for what, tt := range map[string]struct {
		name   string
		change func(*v1alpha1.DiseqNetworkSpec)
		want   string
	}{
		"half of them may sign":     {"bad", fixed(2), "allowed are 3 to 4"},
		"more than all must sign":   {"bad", fixed(5), "allowed are 3 to 4"},
		"value without Fixed":       {"bad", func(s *v1alpha1.DiseqNetworkSpec) { s.Threshold.Value = new(int32(3)) }, "set policy: Fixed"},
		"too many validators":       {"bad", func(s *v1alpha1.DiseqNetworkSpec) { s.Validators = 101 }, "less than or equal to 100"},
		"a name that is too long":   {"a" + strings.Repeat("b", 40), func(*v1alpha1.DiseqNetworkSpec) {}, "at most 40 characters"},
		"a name that is no label":   {"4nodes", func(*v1alpha1.DiseqNetworkSpec) {}, "DNS-1035"},
		"another network's Service": {"bad-peers", func(*v1alpha1.DiseqNetworkSpec) {}, "another network's Service"},
		"a policy nobody knows":     {"bad", func(s *v1alpha1.DiseqNetworkSpec) { s.Threshold.Policy = "Most" }, `"Majority", "TwoThirds", "Fixed"`},
		"a label of the operator":   {"bad", func(s *v1alpha1.DiseqNetworkSpec) { s.PodTemplate.Labels = map[string]string{"diseq.io/network": "x"} }, "belong to the operator"},
		"an interval of two hours": {"bad", func(s *v1alpha1.DiseqNetworkSpec) {
			s.Consensus.MinBlockInterval = &metav1.Duration{Duration: 2 * time.Hour}
		}, "0s to 1m"},
		"a synchrony wait of an hour": {"bad", func(s *v1alpha1.DiseqNetworkSpec) {
			s.Consensus.Synchrony = &v1alpha1.Synchrony{Delta: metav1.Duration{Duration: time.Hour}}
		}, "10ms to 1m"},
		"an image that is a URL": {"bad", func(s *v1alpha1.DiseqNetworkSpec) { s.Image = "https://example.com/diseq" }, "without a scheme"},
		"a pool of a few bytes":  {"bad", func(s *v1alpha1.DiseqNetworkSpec) { s.Messages.MaxPoolBytes = new(resource.MustParse("7")) }, "from 1Mi"},
	} {
		n := cluster.Network(t, namespace, tt.name, 4)
		err := n.TryApply(t.Context(), n.Spec(tt.change))
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want a refusal with %q", what, err, tt.want)
		} else {
			t.Logf("        %s: %v", what, err)
		}
	}
	var made v1alpha1.DiseqNetworkList
	must(t, cluster.List(t.Context(), &made, ctrl.InNamespace(namespace)))
	if len(made.Items) > 0 {
		t.Errorf("%d networks were made", len(made.Items))
	}
}

func TestScalingAgainstAFixedThresholdIsRefused(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "scale"), "fixed", 3)
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) {
		s.Paused = true // nothing needs to run for this
		s.Threshold = v1alpha1.Threshold{Policy: v1alpha1.ThresholdFixed, Value: new(int32(2))}
	}))
	d, err := n.Resource(t.Context())
	must(t, err)
	// As kubectl scale diseqnetwork fixed --replicas=7 does.
	scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Namespace: n.Namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: 7}}
	err = cluster.SubResource("scale").Update(t.Context(), d, ctrl.WithSubResourceBody(scale))
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "allowed are 4 to 7") {
		t.Errorf("scaling to 7 with a threshold of 2: %v", err)
	}
}
