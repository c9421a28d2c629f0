package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/resources"
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
	for _, victim := range d.Victims {
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
			return refused(err, "delete", "Pod", victim.Pod)
		}
		if d.Action == membership.Restart {
			p.r.metrics.restarts.WithLabelValues(p.network.Namespace, p.network.Name).Inc()
			p.event(pod, corev1.EventTypeNormal, "Restarting", "Restart", "%s", d.Message)
		} else {
			p.r.metrics.replaced.WithLabelValues(p.network.Namespace, p.network.Name).Inc()
			p.event(pod, corev1.EventTypeNormal, "Replacing", "Replace", "%s, image %s", d.Message, image(pod))
		}
	}
	return nil
}

func image(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		if c.Name == resources.Container {
			return c.Image
		}
	}
	return "unknown"
}
