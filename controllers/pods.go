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

// deletePods deletes the pods that the planner chose; their StatefulSets make them anew with the
// wanted template.
//
// Each must be the very pod that was judged: the same UID, or a pod that has just come back would
// go, and the same version, or one that has become ready since would.
func (p *pass) deletePods(ctx context.Context, d membership.Decision) error {
	if d.Action != membership.Restart && d.Action != membership.Replace {
		return nil
	}
	for _, victim := range d.Victims {
		pod, ok := cached[*corev1.Pod](p, victim.Pod)
		if !ok || pod.UID != victim.UID {
			return fmt.Errorf("pod %s: %w: it is not the one that was judged", victim.Pod, errLater)
		}
		p.count()
		err := p.r.client.Delete(ctx, pod, client.Preconditions{UID: &pod.UID, ResourceVersion: &pod.ResourceVersion})
		if apierrors.IsNotFound(err) {
			continue // it went by itself
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
