package resources

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
)

func TestTemplateHashChangesWithThePodAndWithNothingElse(t *testing.T) {
	hash := func(change func(n *v1alpha1.DiseqNetwork, o *Operator), first bool) string {
		network, operator := variants()["full"], testOperator
		change(network, &operator)
		set, err := StatefulSet(network, operator, 0, first)
		if err != nil {
			t.Fatal(err)
		}
		if got := TemplateHash(set.Spec.Template); got != TemplateOf(set) || len(got) != 32 {
			t.Errorf("stamped with %q, the hash is %q", TemplateOf(set), got)
		}
		return TemplateOf(set)
	}
	same := func(*v1alpha1.DiseqNetwork, *Operator) {}
	base := hash(same, false)
	for range 50 {
		if got := hash(same, false); got != base {
			t.Fatalf("built again the hash is %s, it was %s", got, base)
		}
	}
	if hash(same, true) == base {
		t.Error("the statement of the first volume changes nothing")
	}
	for name, tt := range map[string]struct {
		change  func(*v1alpha1.DiseqNetwork, *Operator)
		changes bool
	}{
		"image":            {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Image = "other" }, true},
		"operator's image": {func(_ *v1alpha1.DiseqNetwork, o *Operator) { o.NodeImage = "other" }, false},
		"pool size":        {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Messages.MaxPoolBytes = bytesOf(1 << 30) }, true},
		"validators":       {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Validators = 7 }, false},
		"volume size":      {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Storage.Size = bytesOf(1 << 40) }, false},
		"drain": {func(n *v1alpha1.DiseqNetwork, _ *Operator) {
			n.Spec.Service.Drain = &metav1.Duration{Duration: time.Minute}
		}, true},
		"tracing": {func(n *v1alpha1.DiseqNetwork, _ *Operator) {
			n.Spec.Tracing = &v1alpha1.Tracing{Endpoint: "http://otel:4318"}
		}, true},
		"explorer off":        {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Service.Explorer = new(bool) }, true},
		"explorer by default": {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Service.Explorer = new(true) }, false},
		"service":             {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Service.Type = corev1.ServiceTypeNodePort }, false},
		"egress":              {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.NetworkPolicy.Egress = v1alpha1.UnrestrictedEgress }, false},
		"monitoring":          {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Monitoring.Enabled = new(bool) }, false},
		"retention":           {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Storage.Retention.OnDelete = v1alpha1.DeletePolicy }, false},
		"paused":              {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Paused = true }, false},
		"generation":          {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Generation++ }, false},
		"the resource's UID":  {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.UID = "other" }, false},
		"operator's place":    {func(_ *v1alpha1.DiseqNetwork, o *Operator) { o.Namespace = "other" }, false},
	} {
		if got := hash(tt.change, false); (got != base) != tt.changes {
			t.Errorf("%s: changes %v, want %v", name, got != base, tt.changes)
		}
	}
}

func TestEveryObjectIsStampedWithItsHash(t *testing.T) {
	for _, network := range variants() {
		first, second := allObjects(t, network, newMembers(2)), allObjects(t, network, newMembers(2))
		for i, o := range first {
			stamp := o.GetAnnotations()[AppliedAnnotation]
			if stamp == "" || stamp != Hash(o.configuration) || stamp != Hash(second[i].configuration) || stamp != Hash(o.Object) {
				t.Errorf("%v is stamped with %q, its hash is %q, built again %q", o, stamp, Hash(o.configuration), Hash(second[i].configuration))
			}
		}
	}
}

func TestALiveObjectIsCurrentUntilItOrTheSpecChanges(t *testing.T) {
	network := variants()["full"]
	network.Spec.Storage.Retention.OnDelete = v1alpha1.DeletePolicy
	for _, o := range allObjects(t, network, newMembers(1)) {
		live := o.DeepCopy()
		live.SetResourceVersion("17")
		live.SetUID(givenUID(o.GetUID()))
		annotations := live.GetAnnotations()
		annotations["someone.else/note"] = "x"
		live.SetAnnotations(annotations)
		live.SetFinalizers([]string{"someone.else/finalizer"})
		if !Current(live, o.configuration) {
			t.Errorf("%v is not current as it was made", o)
		}
		for change, apply := range map[string]func(*unstructured.Unstructured){
			"without its hash": func(u *unstructured.Unstructured) { u.SetAnnotations(nil) },
			"of another hash":  func(u *unstructured.Unstructured) { u.SetAnnotations(map[string]string{AppliedAnnotation: "x"}) },
			"without a label": func(u *unstructured.Unstructured) {
				l := u.GetLabels()
				delete(l, NetworkLabel)
				u.SetLabels(l)
			},
			"without its owner": func(u *unstructured.Unstructured) { u.SetOwnerReferences(nil) },
		} {
			changed := live.DeepCopy()
			if apply(changed); Current(changed, o.configuration) {
				t.Errorf("%v is current %s", o, change)
			}
		}
	}
	set := statefulSet(t, network)
	configuration, err := StatefulSet(network, testOperator, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	for change, apply := range map[string]func(*appsv1.StatefulSet){
		"scaled to nothing":   func(s *appsv1.StatefulSet) { s.Spec.Replicas = new(int32) },
		"of another strategy": func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType },
		"of another image":    func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "other" },
		"with other arguments": func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Containers[0].Args = append(s.Spec.Template.Spec.Containers[0].Args, "--x")
		},
		"without a volume": func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Volumes = s.Spec.Template.Spec.Volumes[1:] },
		"with a writable root": func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem = new(bool)
		},
	} {
		changed := set.DeepCopy()
		if apply(changed); Current(changed, configuration) {
			t.Errorf("the StatefulSet is current %s", change)
		}
	}
	policies := NetworkPolicies(network, testOperator)
	for i, opened := range policiesOf(t, network, testOperator) {
		if !Current(&opened, policies[i]) {
			t.Errorf("%s is not current as it was made", opened.Name)
		}
		if len(opened.Spec.Ingress) == 0 {
			continue
		}
		opened.Spec.Ingress = append(opened.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{})
		if Current(&opened, policies[i]) {
			t.Errorf("%s is current with a rule that allows everything", opened.Name)
		}
	}
	// Defaults of the API server do not matter.
	defaulted := set.DeepCopy()
	defaulted.Spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	defaulted.Spec.Template.Spec.SchedulerName, defaulted.Spec.Template.Spec.RestartPolicy = "default-scheduler", corev1.RestartPolicyAlways
	defaulted.Status.ReadyReplicas = 1
	if !Current(defaulted, configuration) {
		t.Error("the StatefulSet is not current with the defaults of the API server")
	}
}

func givenUID(uid types.UID) types.UID {
	if uid == "" {
		return "made"
	}
	return uid
}
