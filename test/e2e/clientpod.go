package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
)

// Submit submits a message from a pod of the namespace, by the name of the Service, and returns
// what `diseq submit --wait` printed: the receipt.
func (n *Network) Submit(message string) string {
	n.tb.Helper()
	text := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name + "-message", Namespace: n.Namespace}, Data: map[string]string{"text": message},
	}
	must(n.tb, n.Create(n.tb.Context(), text))
	url := fmt.Sprintf("http://%s:%d", n.Name, publicPort)
	pod := n.clientPod(n.Namespace, n.Name+"-client", "submit", "--wait", "--url", url, "/message/text")
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "message", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: text.Name}},
	}})
	container := &pod.Spec.Containers[0]
	container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "message", MountPath: "/message"})
	out, ok := n.runPod(n.tb, pod)
	if !ok {
		n.tb.Fatalf("diseq submit in a pod failed: %s", out)
	}
	return out
}

// clientPod is a plain pod of the node's image that runs a command of diseq once, as restricted as
// the nodes are.
func (c *Cluster) clientPod(namespace, name string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: new(false),
			TerminationGracePeriodSeconds: new(int64(1)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), FSGroup: new(int64(65532)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Volumes: []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			Containers: []corev1.Container{{
				Name: "diseq", Image: c.Image, Args: args, ImagePullPolicy: corev1.PullIfNotPresent,
				VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}

// runPod runs a pod to its end, removes it, and returns what it printed and whether it succeeded.
func (c *Cluster) runPod(tb testing.TB, pod *corev1.Pod) (printed string, ok bool) {
	tb.Helper()
	must(tb, c.Create(tb.Context(), pod))
	what := fmt.Sprintf("pod %s: diseq %s", pod.Name, strings.Join(pod.Spec.Containers[0].Args, " "))
	Eventually(tb, soon, what, func(ctx context.Context) error {
		if err := c.Get(ctx, ctrl.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("it is %s", pod.Status.Phase)
		}
		return nil
	})
	printed = c.log(tb.Context(), pod, false)
	must(tb, c.Delete(tb.Context(), pod))
	return printed, pod.Status.Phase == corev1.PodSucceeded
}
