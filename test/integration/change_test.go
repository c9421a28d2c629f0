package integration

import (
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/test/integration/harness"
)

// Promise 55.
func TestWhatTheGenesisDocumentHoldsCannotBeChanged(t *testing.T) {
	const genesis = ": cannot be changed: it is part of the genesis document"
	for _, c := range []struct{ change, from, to, want string }{
		{"a longer interval", "", "consensus: {minBlockInterval: 21ms}", "spec.consensus.minBlockInterval: Invalid value ... " + genesis},
		{"the same interval otherwise written", "consensus: {minBlockInterval: 60s}", "consensus: {minBlockInterval: 1m0s}", ""},
		{"back to the default interval", "consensus: {minBlockInterval: 1s}", "{}", "spec.consensus.minBlockInterval ... " + genesis},
		{"the default interval spelt out", "", "consensus: {minBlockInterval: 0.02s}", ""},
		{"an interval that is none", "", "consensus: {minBlockInterval: soon}", "spec.consensus.minBlockInterval ... such as 20ms"},
		{"a longer epoch", "", "consensus: {beaconInterval: 129}", "spec.consensus.beaconInterval ... " + genesis},
		{"the same epoch", "", "consensus: {beaconInterval: 128}", ""},
		{"a synchrony wait added", "", "consensus: {synchrony: {delta: 100ms}}", "spec.consensus.synchrony: Invalid value ... " + genesis},
		{"a synchrony wait taken away", "consensus: {synchrony: {delta: 100ms}}", "{}", "spec.consensus.synchrony: Invalid value ... " + genesis},
		{"a synchrony wait turned off", "consensus: {synchrony: {delta: 100ms}}", "consensus: {synchrony: {delta: 0s}}", "spec.consensus.synchrony ... " + genesis},
		{"a longer synchrony wait", "consensus: {synchrony: {delta: 100ms}}", "consensus: {synchrony: {delta: 101ms}}", "spec.consensus.synchrony ... " + genesis},
		{"the same synchrony wait", "consensus: {synchrony: {delta: 100ms}}", "{image: a, consensus: {synchrony: {delta: 100ms}}}", ""},
		{"the same synchrony wait otherwise written", "consensus: {synchrony: {delta: 60s}}", "consensus: {synchrony: {delta: 1m0s}}", ""},
		{"no synchrony wait, otherwise written", "", "consensus: {synchrony: {delta: 0s}}", ""},
		{"a synchrony wait that is none", "consensus: {synchrony: {delta: 100ms}}", "consensus: {synchrony: {delta: soon}}", "spec.consensus.synchrony.delta ... such as 100ms"},
		{"a synchrony wait that is none instead of none", "", "consensus: {synchrony: {delta: soon}}", "spec.consensus.synchrony.delta ... such as 100ms"},
		{"a synchrony wait without its delta", "consensus: {synchrony: {delta: 100ms}}", "consensus: {synchrony: {}}", "spec.consensus.synchrony.delta: Required value"},
		{"larger messages", "", "messages: {maxBytes: 65537}", "spec.messages.maxBytes ... " + genesis},
		{"the same messages otherwise written", "", "messages: {maxBytes: 64Ki}", ""},
		{"messages that are none", "", "messages: {maxBytes: 64KB}", "spec.messages.maxBytes ... such as 65536"},
		{"back to the default messages", "messages: {maxBytes: 1Ki}", "messages: {}", "spec.messages.maxBytes ... " + genesis},
		{"smaller blocks", "", "messages: {maxBlockBytes: 2Mi}", "spec.messages.maxBlockBytes ... " + genesis},
		{"the same blocks otherwise written", "", "messages: {maxBlockBytes: 4194304}", ""},
		{"another pool", "", "messages: {maxPoolBytes: 512Mi}", ""},

		{"another storage class", "storage: {storageClassName: a}", "storage: {storageClassName: b}", ""},
		{"a storage class instead of the default", "", "storage: {storageClassName: b}", ""},
		{"back to the default storage class", "storage: {storageClassName: b}", "{}", ""},
		{"a storage class that is no name", "", "storage: {storageClassName: A_b}", "spec.storage.storageClassName ... must be the name of a StorageClass"},
		{"another access mode", "", "storage: {accessMode: ReadWriteOncePod}", ""},
		{"larger volumes", "", "storage: {size: 11Gi}", ""},
		{"smaller volumes", "", "storage: {size: 9Gi}", ""},
		{"volumes that are too small", "", "storage: {size: 1Mi}", "spec.storage.size ... 1Gi on"},
		{"retention", "", "storage: {retention: {onDelete: Delete}}", ""},

		{"more validators", "", "validators: 7", ""},
		{"fewer validators", "", "validators: 1", ""},
		{"another policy", "", "threshold: {policy: TwoThirds}", ""},
		{"more validators than a fixed threshold allows", "threshold: {policy: Fixed, value: 3}", "{validators: 6, threshold: {policy: Fixed, value: 3}}", "threshold 3 with 6 validators ... allowed are 4 to 6"},
		{"validators and fixed threshold at once", "threshold: {policy: Fixed, value: 3}", "{validators: 6, threshold: {policy: Fixed, value: 4}}", ""},
		{"a policy instead of a fixed threshold", "threshold: {policy: Fixed, value: 3}", "threshold: {policy: Majority}", ""},
		{"somebody to retire", "", "retire: [demo-v1]", ""},
		{"somebody else to retire", "retire: [demo-v1]", "retire: [demo-v2]", ""},
		{"another image", "image: diseq:v1", "image: diseq:v2", ""},
		{"paused", "", "paused: true", ""},

		{"another load balancer", "service: {type: LoadBalancer, loadBalancerClass: a}", "service: {type: LoadBalancer, loadBalancerClass: b}",
			"spec.service.loadBalancerClass ... cannot be changed while type is LoadBalancer: set another type first"},
		{"a class for a load balancer", "service: {type: LoadBalancer}", "service: {type: LoadBalancer, loadBalancerClass: b}", "cannot be changed while type is LoadBalancer"},
		{"a load balancer of a class", "service: {type: NodePort}", "service: {type: LoadBalancer, loadBalancerClass: b}", ""},
		{"no load balancer any more", "service: {type: LoadBalancer, loadBalancerClass: a}", "{}", ""},
		{"another first family", "service: {ipFamilies: [IPv4]}", "service: {ipFamilies: [IPv6]}", "spec.service.ipFamilies ... the first family cannot be changed while the Service exists"},
		{"a second family", "service: {ipFamilies: [IPv4]}", "service: {ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4, IPv6]}", ""},
		{"families that the API server chooses", "service: {ipFamilies: [IPv4]}", "{}", ""},
		{"sidecars", "podTemplate: {containers: [{name: a, image: b}]}", "podTemplate: {initContainers: [{name: a, image: b}]}", ""},
		{"ids of the platform", "podTemplate: {securityContext: {runAsUser: 5}}", "podTemplate: {securityContext: {ids: Platform}}", ""},
	} {
		t.Run(c.change, func(t *testing.T) {
			u := written(t, harness.Namespace(t), "demo", c.from)
			k := harness.Client(t)
			if err := k.Create(t.Context(), u, strictly); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(c.want, genesis) {
				// Without a genesis document there is nothing yet that the value is part of.
				free := u.DeepCopy()
				set(t, free, c.to)
				expect(t, k.Update(t.Context(), free, strictly, client.DryRunAll), "")
			}
			n := typed(t, u)
			n.Status.GenesisHash = "00"
			if err := k.Status().Update(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			u.SetResourceVersion(n.ResourceVersion)
			set(t, u, c.to)
			expect(t, k.Update(t.Context(), u, strictly), c.want)
		})
	}
}

// A default that a Go client leaves out and a form that it writes otherwise must not look like a
// change to it.
func TestAGoClientCanWriteBackWhatItRead(t *testing.T) {
	for _, spec := range []string{"", "consensus: {synchrony: {delta: 0.5s}}", "consensus: {synchrony: {delta: '0'}}", "{consensus: {minBlockInterval: 60s, synchrony: {delta: 60s}}, messages: {maxBytes: 1024, maxPoolBytes: 1e8}, storage: {size: 1048576Ki}}"} {
		u := written(t, harness.Namespace(t), "demo", spec)
		k := harness.Client(t)
		if err := k.Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		n := typed(t, u)
		if err := k.Update(t.Context(), n, strictly); err != nil {
			t.Fatal(err)
		}
		n.Labels = map[string]string{"touched": "yes"}
		if err := k.Update(t.Context(), n, strictly); err != nil {
			t.Fatal(err)
		}
	}
}

// Promise 55.
func TestScaleObeysTheRulesOfTheSpec(t *testing.T) {
	for _, c := range []struct {
		scale, spec string
		replicas    int32
		want        string
	}{
		{"up", "", 7, ""},
		{"to one", "", 1, ""},
		{"to the most", "", 100, ""},
		{"beyond the most", "", 101, "spec.validators: Invalid value: 101 ... less than or equal to 100"},
		{"to nothing", "", 0, "spec.validators: Invalid value: 0 ... greater than or equal to 1"},
		{"within a fixed threshold", "threshold: {policy: Fixed, value: 3}", 5, ""},
		{"until a fixed threshold is no majority", "threshold: {policy: Fixed, value: 3}", 6, "threshold 3 with 6 validators ... allowed are 4 to 6"},
		{"below a fixed threshold", "threshold: {policy: Fixed, value: 3}", 2, "threshold 3 with 2 validators ... allowed are 2 to 2"},
		{"with a validator to retire", "retire: [demo-v1]", 3, ""},
		{"beyond the pool's room", "messages: {maxPoolBytes: 1Mi}", 16, "each of the 16 validators ... allowed are 1114112 bytes or more"},
	} {
		t.Run(c.scale, func(t *testing.T) {
			u := written(t, harness.Namespace(t), "demo", c.spec)
			k := harness.Client(t)
			if err := k.Create(t.Context(), u); err != nil {
				t.Fatal(err)
			}
			generation, validators := u.GetGeneration(), typed(t, u).Spec.Validators
			scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: c.replicas}}
			err := k.SubResource("scale").Update(t.Context(), u.DeepCopy(), client.WithSubResourceBody(scale))
			expect(t, err, c.want)
			if err := k.Get(t.Context(), client.ObjectKeyFromObject(u), u); err != nil {
				t.Fatal(err)
			}
			want := validators
			if c.want == "" {
				want = c.replicas
			}
			if got := typed(t, u).Spec.Validators; got != want || (got == validators) != (u.GetGeneration() == generation) {
				t.Errorf("%d validators, generation %d; want %d, generation was %d", got, u.GetGeneration(), want, generation)
			}
		})
	}
}

// Promise 55.
func TestKubectlScale(t *testing.T) {
	u := written(t, harness.Namespace(t), "demo", "threshold: {policy: Fixed, value: 3}")
	k := harness.Client(t)
	if err := k.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	scale := func(replicas string) error {
		_, err := harness.Kubectl(t, "scale", "diseqnetwork", "demo", "--namespace", u.GetNamespace(), "--replicas", replicas)
		return err
	}
	expect(t, scale("5"), "")
	expect(t, scale("7"), "threshold 3 with 7 validators ... allowed are 4 to 7")
	if err := k.Get(t.Context(), client.ObjectKeyFromObject(u), u); err != nil {
		t.Fatal(err)
	}
	if n := typed(t, u).Spec.Validators; n != 5 {
		t.Errorf("%d validators, want 5", n)
	}
}

// A condition that is older than the edit says nothing about it, and kubectl knows that.
func TestKubectlWaitsForTheEndOfAChangeThatTheOperatorHasNotSeenYet(t *testing.T) {
	u := written(t, harness.Namespace(t), "demo", "")
	k := harness.Client(t)
	if err := k.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	report := func(changing metav1.ConditionStatus) {
		t.Helper()
		if err := k.Get(t.Context(), client.ObjectKeyFromObject(u), u); err != nil {
			t.Fatal(err)
		}
		n := typed(t, u)
		meta.SetStatusCondition(&n.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionMembershipChanging, Status: changing, Reason: "Test", ObservedGeneration: n.Generation})
		if err := k.Status().Update(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	wait := func() error {
		_, err := harness.Kubectl(t, "wait", "--for=condition=MembershipChanging=False", "dsq/demo", "--namespace", u.GetNamespace(), "--timeout=0")
		return err
	}
	report(metav1.ConditionFalse)
	expect(t, wait(), "")
	if _, err := harness.Kubectl(t, "scale", "dsq", "demo", "--namespace", u.GetNamespace(), "--replicas", "7"); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(), "condition not met")
	report(metav1.ConditionTrue)
	expect(t, wait(), "condition not met")
	report(metav1.ConditionFalse)
	expect(t, wait(), "")
}

func TestTheScaleSubresourceShowsTheStatus(t *testing.T) {
	u := written(t, harness.Namespace(t), "demo", "validators: 7")
	k := harness.Client(t)
	if err := k.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	n := typed(t, u)
	n.Status.Validators, n.Status.Selector = 4, "diseq.io/network=demo"
	if err := k.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	scale := &autoscalingv1.Scale{}
	if err := k.SubResource("scale").Get(t.Context(), n, scale); err != nil {
		t.Fatal(err)
	}
	if scale.Spec.Replicas != 7 || scale.Status.Replicas != 4 || scale.Status.Selector != "diseq.io/network=demo" {
		t.Errorf("got %+v", scale)
	}
}

// Neither does a user write the status, nor the operator, which may write the status alone, the
// spec.
func TestStatusIsWrittenApartFromTheSpec(t *testing.T) {
	u := written(t, harness.Namespace(t), "demo", "")
	k := harness.Client(t)
	if err := unstructured.SetNestedField(u.Object, "demo-0123abcd", "status", "chainID"); err != nil {
		t.Fatal(err)
	}
	if err := k.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	n := typed(t, u)
	if n.Status.ChainID != "" {
		t.Errorf("a user wrote the status: %+v", n.Status)
	}
	n.Status.ChainID, n.Spec.Validators = "demo-0123abcd", 7
	if err := k.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if err := k.Get(t.Context(), client.ObjectKeyFromObject(n), n); err != nil {
		t.Fatal(err)
	}
	if n.Status.ChainID != "demo-0123abcd" || n.Spec.Validators != 4 || n.Generation != 1 {
		t.Errorf("%d validators, generation %d, status %+v", n.Spec.Validators, n.Generation, n.Status)
	}
}
