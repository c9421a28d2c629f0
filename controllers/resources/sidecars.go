package resources

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// addSidecars adds the volumes and containers of the spec to the pod.
func addSidecars(pod *corev1ac.PodSpecApplyConfiguration, t v1alpha1.PodTemplate) error {
	for _, from := range t.Volumes {
		to, err := converted[corev1ac.VolumeApplyConfiguration]("volumes", from)
		if err != nil {
			return err
		}
		pod.WithVolumes(to)
	}
	for _, from := range t.InitContainers {
		to, err := sidecar("initContainers", from)
		if err != nil {
			return err
		}
		pod.WithInitContainers(to)
	}
	for _, from := range t.Containers {
		to, err := sidecar("containers", from)
		if err != nil {
			return err
		}
		pod.WithContainers(to)
	}
	return nil
}

// sidecar is a container of the spec. The API admits only what the restricted standard allows; here
// it gets what the standard demands.
func sidecar(field string, from v1alpha1.Container) (*corev1ac.ContainerApplyConfiguration, error) {
	to, err := converted[corev1ac.ContainerApplyConfiguration](field, from)
	if err != nil {
		return nil, err
	}
	// Not WithCapabilities of what was given: that would add to the list.
	security := restricted()
	if given := from.SecurityContext; given != nil {
		security.RunAsUser, security.RunAsGroup = given.RunAsUser, given.RunAsGroup
		security.ReadOnlyRootFilesystem = given.ReadOnlyRootFilesystem
		if given.SeccompProfile != nil {
			security.WithSeccompProfile(seccomp(given.SeccompProfile))
		}
		if given.Capabilities != nil {
			security.Capabilities.WithAdd(given.Capabilities.Add...)
		}
	}
	return to.WithSecurityContext(security).WithTerminationMessagePolicy(corev1.TerminationMessageFallbackToLogsOnError), nil
}

// restricted is what the restricted standard demands of every container.
func restricted() *corev1ac.SecurityContextApplyConfiguration {
	return corev1ac.SecurityContext().WithAllowPrivilegeEscalation(false).WithRunAsNonRoot(true).
		WithCapabilities(corev1ac.Capabilities().WithDrop("ALL"))
}

// Kinds of objects that a pod template may name.
const (
	secretKind = "Secret"
	claimKind  = "PersistentVolumeClaim"
)

// reference is an object that the spec names, in a field.
type reference struct{ field, kind, name string }

// References says whether the spec names Secrets or claims.
func References(network *v1alpha1.DiseqNetwork) bool { return len(allReferences(network)) > 0 }

// CheckReferences refuses a spec that names the key Secret or the claim of a validator of one of
// the networks: a container that reads a key can vote, and one that changes a volume can make its
// validator vote twice.
func CheckReferences(network *v1alpha1.DiseqNetwork, networks []string) error {
	for _, r := range allReferences(network) {
		for _, other := range networks {
			if _, ok := SerialOf(other, r.name); !ok {
				continue
			}
			holds := "the keys"
			if r.kind == claimKind {
				holds = "the votes"
			}
			return fmt.Errorf("spec.%s names the %s %s, which holds %s of a validator of network %s: "+
				"only that validator's node may have it. Name another one, or leave it out", r.field, r.kind, r.name, holds, other)
		}
	}
	return nil
}

// allReferences are the Secrets and claims that the spec names.
func allReferences(network *v1alpha1.DiseqNetwork) []reference {
	out := accessSecrets(network)
	for _, r := range references(network.Spec.PodTemplate) {
		r.field = "podTemplate." + r.field
		out = append(out, r)
	}
	return out
}

// references are the Secrets and claims that the pod template names.
func references(t v1alpha1.PodTemplate) (out []reference) {
	out = secretsOf("env", t.Env, nil)
	for _, v := range t.Volumes {
		field := "volumes." + v.Name
		switch {
		case v.Secret != nil:
			out = append(out, reference{field, secretKind, v.Secret.SecretName})
		case v.PersistentVolumeClaim != nil:
			out = append(out, reference{field, claimKind, v.PersistentVolumeClaim.ClaimName})
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					out = append(out, reference{field, secretKind, s.Secret.Name})
				}
			}
		}
	}
	for _, c := range slices.Concat(t.InitContainers, t.Containers) {
		out = append(out, secretsOf("containers."+c.Name, c.Env, c.EnvFrom)...)
	}
	return out
}

// secretsOf are the Secrets that environment variables come from.
func secretsOf(field string, variables []v1alpha1.EnvVar, from []v1alpha1.EnvFromSource) (out []reference) {
	for _, e := range variables {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			out = append(out, reference{field, secretKind, e.ValueFrom.SecretKeyRef.Name})
		}
	}
	for _, e := range from {
		if e.SecretRef != nil {
			out = append(out, reference{field, secretKind, e.SecretRef.Name})
		}
	}
	return out
}
