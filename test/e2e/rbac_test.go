package e2e

import (
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
)

// That the rights suffice is what every other test shows: the operator runs as this ServiceAccount.
func TestTheOperatorsAccountMayNotDoMoreThanItNeeds(t *testing.T) {
	namespace := cluster.Namespace(t, "rights")
	operator := cluster.As(t, OperatorUser)
	for _, tt := range []struct {
		verb, group, resource, subresource, namespace string
		allowed                                       bool
	}{
		{"get", "", "secrets", "", namespace, true},
		{"create", "", "secrets", "", namespace, true},
		{"list", "", "secrets", "", namespace, false},
		{"watch", "", "secrets", "", namespace, false},
		{"delete", "", "secrets", "", namespace, false},
		{"deletecollection", "", "secrets", "", namespace, false},
		{"list", "", "secrets", "", "", false},
		{"delete", "", "pods", "", namespace, true},
		{"create", "", "pods", "", namespace, false},
		{"create", "", "pods", "exec", namespace, false},
		{"get", "", "pods", "log", namespace, false},
		{"delete", "", "persistentvolumeclaims", "", namespace, true},
		{"deletecollection", "", "persistentvolumeclaims", "", namespace, false},
		{"patch", "", "pods", "", namespace, true},
		{"delete", "apps", "statefulsets", "", namespace, true},
		{"delete", "", "configmaps", "", namespace, false},
		{"create", "", "serviceaccounts", "token", namespace, false},
		{"list", "", "nodes", "", "", false},
		{"get", "", "namespaces", "", "", false},
		{"delete", "", "namespaces", "", "", false},
		{"create", "rbac.authorization.k8s.io", "clusterroles", "", "", false},
		{"bind", "rbac.authorization.k8s.io", "clusterroles", "", "", false},
		{"patch", "apps", "statefulsets", "", namespace, true},
		{"create", "apps", "deployments", "", namespace, false},
		{"patch", "diseq.io", "diseqnetworks", "status", namespace, true},
		{"patch", "diseq.io", "diseqnetworks", "", namespace, false},
		{"delete", "diseq.io", "diseqnetworks", "", namespace, false},
		{"create", "events.k8s.io", "events", "", namespace, true},
		{"list", "", "events", "", namespace, true},
		{"watch", "", "events", "", namespace, false},
		{"patch", "apiextensions.k8s.io", "customresourcedefinitions", "", "", false},
	} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: tt.verb, Group: tt.group, Resource: tt.resource, Subresource: tt.subresource, Namespace: tt.namespace,
			},
		}}
		must(t, operator.Create(t.Context(), review))
		if review.Status.Allowed != tt.allowed {
			t.Errorf("%s %s %s/%s in %q: allowed is %t, want %t (%s)", tt.verb, tt.group, tt.resource, tt.subresource, tt.namespace,
				review.Status.Allowed, tt.allowed, review.Status.Reason)
		}
	}
	if err := operator.List(t.Context(), &corev1.SecretList{}, ctrl.InNamespace(namespace)); !apierrors.IsForbidden(err) {
		t.Errorf("the operator lists Secrets: %v", err)
	}
	if err := operator.Create(t.Context(), cluster.clientPod(namespace, "any", "version")); !apierrors.IsForbidden(err) {
		t.Errorf("the operator makes pods: %v", err)
	}
	// RBAC allows these; the chart's admission policies do not. test/integration has the rest.
	token := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: "net-v0", Namespace: namespace, Labels: map[string]string{"diseq.io/network": "net"},
			Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"},
		},
		Type: corev1.SecretTypeServiceAccountToken,
	}
	if err := operator.Create(t.Context(), token, ctrl.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("the operator makes a Secret that gets the token of another account: %v", err)
	}
	member := cluster.clientPod(namespace, "member", "version")
	member.Labels = map[string]string{"diseq.io/network": "net", "diseq.io/role": "validator"}
	if err := cluster.Create(t.Context(), member, ctrl.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("somebody makes a pod of a network: %v", err)
	}
}

func TestValidatorsPodsHaveNoTokenOfTheAPI(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "token"), "plain", 1)
	n.Apply(n.Spec())
	n.AwaitAvailable()
	pod := n.MustPod(0)
	if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
		t.Errorf("%s asks for a token", pod.Name)
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected != nil || (v.Secret != nil && v.Secret.SecretName != n.ValidatorName(0)) {
			t.Errorf("%s mounts %s", pod.Name, v.Name)
		}
	}
	if pod.Spec.ServiceAccountName != n.ValidatorName(0) {
		t.Errorf("%s runs as %q", pod.Name, pod.Spec.ServiceAccountName)
	}
	var namespace corev1.Namespace
	must(t, n.Get(t.Context(), ctrl.ObjectKey{Name: n.Namespace}, &namespace))
	if namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("namespace %s enforces nothing", n.Namespace)
	}
	err := n.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "loose", Namespace: n.Namespace},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "loose", Image: n.Image}}},
	})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a pod that is not restricted is let in: %v", err)
	}
}
