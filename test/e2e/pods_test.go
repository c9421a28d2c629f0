package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// memoryOfRange is the memory limit that a LimitRange gives to containers without one.
const memoryOfRange = 1 << 30

// limitMemory makes a LimitRange, as the only source of a limit.
func (c *Cluster) limitMemory(t *testing.T, namespace string) {
	t.Helper()
	must(t, c.Create(t.Context(), &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Name: "memory", Namespace: namespace},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Default: corev1.ResourceList{corev1.ResourceMemory: *resource.NewQuantity(memoryOfRange, resource.BinarySI)},
		}}},
	}))
}

// crowded is a template with containers of the user, with variables, and with ids as a platform
// assigns them from a range.
func (c *Cluster) crowded(s *v1alpha1.DiseqNetworkSpec) {
	const id = 1000650000
	network := func(name, http string) v1alpha1.Container {
		return v1alpha1.Container{
			Name: name, Image: c.Image, ImagePullPolicy: corev1.PullIfNotPresent,
			Args:         []string{"devnet", "--validators", "1", "--threshold", "1", "--dir", "/net/" + name, "--http", http},
			VolumeMounts: []v1alpha1.VolumeMount{{Name: "net", MountPath: "/net"}, {Name: "net", MountPath: "/tmp", SubPath: "tmp-" + name}},
		}
	}
	before, beside := network("before", "127.0.0.1:18080"), network("beside", "127.0.0.1:28080")
	before.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	s.PodTemplate.InitContainers = []v1alpha1.Container{{Name: "once", Image: c.Image, ImagePullPolicy: corev1.PullIfNotPresent, Args: []string{"version"}}, before}
	s.PodTemplate.Containers = []v1alpha1.Container{beside}
	s.PodTemplate.Volumes = []v1alpha1.Volume{{Name: "net", EmptyDir: &v1alpha1.EmptyDirVolume{}}}
	s.PodTemplate.VolumeMounts = []v1alpha1.VolumeMount{{Name: "net", MountPath: "/shared", ReadOnly: true}}
	s.PodTemplate.Env = []v1alpha1.EnvVar{{Name: "GODEBUG", Value: "madvdontneed=1"}}
	s.PodTemplate.SecurityContext = &v1alpha1.PodSecurityContext{
		RunAsUser: new(int64(id)), RunAsGroup: new(int64(0)), FSGroup: new(int64(id)), SELinuxOptions: &v1alpha1.SELinuxOptions{Level: "s0:c26,c5"},
	}
	s.NetworkPolicy.Egress = v1alpha1.UnrestrictedEgress
}

// checkCrowded checks that all containers run, with the limit of the LimitRange.
func (n *Network) checkCrowded(t *testing.T) {
	t.Helper()
	pod := n.MustPod(0)
	var running []string
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if c.State.Running != nil && c.Ready {
			running = append(running, c.Name)
		}
	}
	if strings.Join(running, " ") != "before beside node" && strings.Join(running, " ") != "before node beside" {
		t.Errorf("%s runs %v", pod.Name, running)
	}
	if user := *pod.Spec.Containers[0].SecurityContext.RunAsUser; user != 1000650000 {
		t.Errorf("the node runs as %d", user)
	}
}

// checkMemoryLimit checks that the node keeps to the limit of the LimitRange: no object of the
// network has one.
func (n *Network) checkMemoryLimit(t *testing.T) {
	t.Helper()
	pod := n.MustPod(0)
	if limit := pod.Spec.Containers[0].Resources.Limits.Memory().Value(); limit != memoryOfRange {
		t.Errorf("the limit of %s is %d", pod.Name, limit)
	}
	want := fmt.Sprintf(`"GOMEMLIMIT":%d`, int64(memoryOfRange*9/10))
	Eventually(t, soon, pod.Name+" says its memory limit", func(ctx context.Context) error {
		if log := n.log(ctx, pod, false); !strings.Contains(log, want) {
			return fmt.Errorf("the log does not have %s: %.2000s", want, log)
		}
		return nil
	})
}
