package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// deletePods deletes the pods that the planner chose. Their StatefulSets make new ones with the
// wanted template.
//
// Each must be the very pod that the planner saw. Its UID must be the same, or a pod that has just
// come back could be deleted; and its version, or one that has become ready since.
func (p *pass) deletePods(ctx context.Context, d membership.Decision) error {
	if d.Action != membership.Restart && d.Action != membership.Replace {
		return nil
	}
	if d.Action == membership.Restart && (p.lost || p.grounded) {
		return nil // the pod would not start again, or with a file of somebody else
	}
	for _, victim := range d.Victims {
		if m := p.member(victim.Member); m != nil && m.held {
			continue
		}
		pod, ok := cached[*corev1.Pod](p, victim.Pod)
		if !ok || pod.UID != victim.UID {
			return fmt.Errorf("pod %s: %w: another pod has its name by now", victim.Pod, errLater)
		}
		p.count()
		err := p.r.client.Delete(ctx, pod, client.Preconditions{UID: &pod.UID, ResourceVersion: &pod.ResourceVersion})
		if apierrors.IsNotFound(err) {
			continue // it is gone already
		}
		if err != nil {
			if err = p.noted(refused(err, "delete", "Pod", victim.Pod)); err != nil {
				return err
			}
			continue
		}
		if d.Action == membership.Restart {
			p.r.metrics.restarts.WithLabelValues(p.network.Namespace, p.network.Name).Inc()
			p.event(pod, corev1.EventTypeNormal, status.Restarting, "Restart", "%s", d.Message)
		} else {
			p.r.metrics.replaced.WithLabelValues(p.network.Namespace, p.network.Name).Inc()
			p.event(pod, corev1.EventTypeNormal, status.Replacing, "Replace", "%s, image %s", d.Message, image(pod))
		}
	}
	return nil
}

// restarted is the request for a restart of the network, if the pods of all validators carry it. It
// stays in the status while a pod that carried it is away.
func (p *pass) restarted() string {
	request, asked := resources.RestartOfNetwork(p.network)
	if !asked || p.network.Status.Restarted == request {
		return request
	}
	validators := 0
	for _, m := range p.members {
		if !m.inSet {
			continue
		}
		validators++
		if m.pod == nil || m.pod.DeletionTimestamp != nil || m.pod.Annotations[resources.NetworkRestartAnnotation] != request {
			return ""
		}
	}
	if validators == 0 {
		return ""
	}
	return request
}

// forgetRestarts takes from pods the requests for a restart that nobody makes any more, so that the
// same request counts when it is made again.
func (p *pass) forgetRestarts(ctx context.Context) error {
	for _, m := range p.members {
		if m.pod == nil || m.pod.DeletionTimestamp != nil || m.wanted == nil {
			continue
		}
		annotations := map[string]any{}
		for _, key := range resources.TakenBack(m.pod, m.wanted) {
			annotations[key] = nil
		}
		if len(annotations) == 0 {
			continue
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": m.pod.UID, "annotations": annotations}})
		if err != nil {
			return fmt.Errorf("patch Pod %s: %w", m.pod.Name, err)
		}
		p.count()
		err = p.r.client.Patch(ctx, m.pod.DeepCopy(), client.RawPatch(types.MergePatchType, patch), fieldOwner)
		switch {
		case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err): // another pod has its name by now
		case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
			return nil // a new value is a new request all the same
		default:
			return fmt.Errorf("patch Pod %s: %w", m.pod.Name, err)
		}
	}
	return nil
}

// labelPods puts back labels of pods that somebody has changed. By its labels a pod belongs to its
// StatefulSet, gets clients, and counts for the disruption budget. A StatefulSet lets a pod go that
// has lost them, makes no other one of its name, and takes it back when it has them again.
func (p *pass) labelPods(ctx context.Context) error {
	for _, m := range p.members {
		pod, ok := cached[*corev1.Pod](p, resources.PodName(m.name))
		if !ok || m.set == nil || pod.DeletionTimestamp != nil || !madePod(m, pod) {
			continue
		}
		missing := map[string]string{}
		want := resources.PodLabels(p.network.Name, m.name)
		if template := m.set.Spec.Template; template.Annotations[resources.TemplateAnnotation] == pod.Annotations[resources.TemplateAnnotation] {
			maps.Copy(want, template.Labels)
		}
		for label, value := range want {
			if had, ok := pod.Labels[label]; !ok || had != value {
				missing[label] = value
			}
		}
		if len(missing) == 0 {
			continue
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID, "labels": missing}})
		if err != nil {
			return fmt.Errorf("patch Pod %s: %w", pod.Name, err)
		}
		p.count()
		err = p.r.client.Patch(ctx, pod.DeepCopy(), client.RawPatch(types.MergePatchType, patch), fieldOwner)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err = p.noted(refused(err, "patch", "Pod", pod.Name)); err != nil {
			return err
		}
	}
	return nil
}

// madePod says whether the member's StatefulSet made a pod. One that was let go has no controller
// any more, and still mounts the claim and has the name and the template of its StatefulSet.
func madePod(m *member, pod *corev1.Pod) bool {
	if owner := metav1.GetControllerOf(pod); owner != nil {
		return owner.UID == m.set.UID
	}
	return pod.GenerateName == m.name+"-" && pod.Annotations[resources.TemplateAnnotation] != "" &&
		slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
			return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == m.name
		})
}

func image(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		if c.Name == resources.Container {
			return c.Image
		}
	}
	return "unknown"
}
