package controllers

import (
	"encoding/json"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/controllers/resources"
)

// outdatedPod says whether the member's pod is not the one that its StatefulSet would make: it was
// made from another template, or its image was replaced while it ran.
//
// The hash of the template, an annotation, tells an update from what admission does to a pod. It
// does not tell a pod that was made while somebody had edited the template. The StatefulSet's
// revisions alone would not tell either: for a moment after a change they are those of before, and
// admission may change a template at every write.
func (p *pass) outdatedPod(m *member) bool {
	if m.wanted == nil {
		return false
	}
	if m.pod.Annotations[resources.TemplateAnnotation] != resources.TemplateOf(m.wanted) || len(replacedImage(m.pod.ManagedFields)) > 0 {
		return true
	}
	if m.set == nil || m.set.Status.ObservedGeneration < m.set.Generation || !resources.Current(m.set, m.wanted) {
		return false
	}
	revision, ok := m.pod.Labels[appsv1.ControllerRevisionHashLabelKey]
	return ok && revision != m.set.Status.UpdateRevision && runsOtherwise(&m.pod.Spec, &m.set.Spec.Template.Spec)
}

// runsOtherwise says whether a pod runs something else than a template: another program, or on the
// network of its machine.
func runsOtherwise(pod, template *corev1.PodSpec) bool {
	if pod.HostNetwork != template.HostNetwork || pod.HostPID != template.HostPID || pod.HostIPC != template.HostIPC {
		return true
	}
	named := func(spec *corev1.PodSpec, name string) *corev1.Container {
		i := slices.IndexFunc(spec.Containers, func(c corev1.Container) bool { return c.Name == name })
		if i < 0 {
			return nil
		}
		return &spec.Containers[i]
	}
	a, b := named(pod, resources.Container), named(template, resources.Container)
	if a == nil || b == nil || a.Image != b.Image || !slices.Equal(a.Command, b.Command) || !slices.Equal(a.Args, b.Args) ||
		!reflect.DeepEqual(a.Env, b.Env) || !reflect.DeepEqual(a.EnvFrom, b.EnvFrom) {
		return true
	}
	return slices.ContainsFunc(pod.Containers, func(c corev1.Container) bool { return named(template, c.Name) == nil }) ||
		len(pod.InitContainers) != len(template.InitContainers)
}

// replacedImage returns the entries of a pod's managed fields by which somebody replaced the image
// of its node: the owner of the image did not make the pod. `kubectl set image pod/demo-v0-0` does
// that; the kubelet then runs the other image in the same pod.
func replacedImage(entries []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	var replaced []metav1.ManagedFieldsEntry
	for _, e := range entries {
		if e.FieldsV1 == nil || e.Subresource != "" {
			continue
		}
		var fields struct {
			Metadata struct {
				Owners json.RawMessage `json:"f:ownerReferences"`
			} `json:"f:metadata"`
			Spec struct {
				Containers map[string]map[string]json.RawMessage `json:"f:containers"`
			} `json:"f:spec"`
		}
		if json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		if _, image := fields.Spec.Containers[`k:{"name":"`+resources.Container+`"}`]["f:image"]; image && fields.Metadata.Owners == nil {
			replaced = append(replaced, e)
		}
	}
	return replaced
}
