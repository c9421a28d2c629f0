package resources

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// nonRoot is the user and group of the image.
const nonRoot int64 = 65532

// keyMode lets the pod's group (fsGroup) read, because a Secret's files belong to root. A node
// refuses a key that others could read.
const keyMode = 0o440

// stopSeconds is how long a node may take after the drain: 10 s for requests that are still open,
// and the rest to finish its writes. These take a fraction of a second; a slow disk may need more.
const stopSeconds = 60

// defaultDrain is spec.service.drain if the spec has none.
const defaultDrain = 10 * time.Second

// drain is how long a node that is stopped goes on serving clients.
func drain(network *v1alpha1.DiseqNetwork) time.Duration {
	if d := network.Spec.Service.Drain; d != nil {
		return d.Duration
	}
	return defaultDrain
}

// podSpec is a pod of one validator without its container. It keeps to the restricted Pod Security
// Standard.
func podSpec(network *v1alpha1.DiseqNetwork, validator string) (*corev1ac.PodSpecApplyConfiguration, error) {
	t := network.Spec.PodTemplate
	spec := corev1ac.PodSpec().
		WithServiceAccountName(validator).WithAutomountServiceAccountToken(false).WithEnableServiceLinks(false).
		WithTerminationGracePeriodSeconds(stopSeconds + int64(drain(network).Seconds())).
		WithSecurityContext(podSecurity(t.SecurityContext)).
		WithVolumes(volumes(network, validator)...)
	for _, s := range network.Spec.ImagePullSecrets {
		spec.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(s.Name))
	}
	if len(t.NodeSelector) > 0 {
		spec.WithNodeSelector(t.NodeSelector)
	}
	if t.PriorityClassName != "" {
		spec.WithPriorityClassName(t.PriorityClassName)
	}
	for _, from := range t.Tolerations {
		to, err := converted[corev1ac.TolerationApplyConfiguration]("tolerations", from)
		if err != nil {
			return nil, err
		}
		spec.WithTolerations(to)
	}
	if t.Affinity != nil {
		affinity, err := converted[corev1ac.AffinityApplyConfiguration]("affinity", t.Affinity)
		if err != nil {
			return nil, err
		}
		spec.WithAffinity(affinity)
	}
	for _, from := range t.TopologySpreadConstraints {
		to, err := converted[corev1ac.TopologySpreadConstraintApplyConfiguration]("topologySpreadConstraints", from)
		if err != nil {
			return nil, err
		}
		spec.WithTopologySpreadConstraints(to)
	}
	if len(t.TopologySpreadConstraints) == 0 {
		// Preferred, not required: a cluster may have fewer machines than the network has
		// validators.
		spec.WithTopologySpreadConstraints(corev1ac.TopologySpreadConstraint().
			WithMaxSkew(1).WithTopologyKey(corev1.LabelHostname).WithWhenUnsatisfiable(corev1.ScheduleAnyway).
			WithLabelSelector(labelSelector(ValidatorsSelector(network.Name))))
	}
	return spec, nil
}

// podSecurity keeps to the restricted standard, whatever the spec says. The kubelet gives the files
// of the volume to the group at every start: they are few, and another user than before can read
// them only then.
func podSecurity(given *v1alpha1.PodSecurityContext) *corev1ac.PodSecurityContextApplyConfiguration {
	out := corev1ac.PodSecurityContext().WithRunAsNonRoot(true).WithSeccompProfile(runtimeDefault()).
		WithFSGroupChangePolicy(corev1.FSGroupChangeAlways)
	if assigned(given) {
		given = &v1alpha1.PodSecurityContext{
			FSGroupChangePolicy: given.FSGroupChangePolicy, SupplementalGroups: given.SupplementalGroups,
			SELinuxOptions: given.SELinuxOptions, SeccompProfile: given.SeccompProfile,
		}
	} else {
		user, group := userAndGroup(given)
		out.WithRunAsUser(user).WithRunAsGroup(group).WithFSGroup(nonRoot)
	}
	if given == nil {
		return out
	}
	if given.FSGroup != nil {
		out.WithFSGroup(*given.FSGroup)
	}
	if given.FSGroupChangePolicy != nil {
		out.WithFSGroupChangePolicy(*given.FSGroupChangePolicy)
	}
	out.WithSupplementalGroups(given.SupplementalGroups...)
	if o := given.SELinuxOptions; o != nil {
		out.WithSELinuxOptions(seLinux(o))
	}
	if s := given.SeccompProfile; s != nil {
		out.WithSeccompProfile(seccomp(s))
	}
	return out
}

// assigned says that the platform assigns user and group ids.
func assigned(given *v1alpha1.PodSecurityContext) bool {
	return given != nil && given.IDs == v1alpha1.PlatformIDs
}

// userAndGroup are the ids of the containers, unless the platform assigns them.
func userAndGroup(given *v1alpha1.PodSecurityContext) (user, group int64) {
	user, group = nonRoot, nonRoot
	if given != nil && given.RunAsUser != nil {
		user = *given.RunAsUser
	}
	if given != nil && given.RunAsGroup != nil {
		group = *given.RunAsGroup
	}
	return user, group
}

func seLinux(from *v1alpha1.SELinuxOptions) *corev1ac.SELinuxOptionsApplyConfiguration {
	out := corev1ac.SELinuxOptions()
	if from.Level != "" {
		out.WithLevel(from.Level)
	}
	if from.Type != "" {
		out.WithType(from.Type)
	}
	return out
}

func seccomp(from *v1alpha1.SeccompProfile) *corev1ac.SeccompProfileApplyConfiguration {
	out := corev1ac.SeccompProfile().WithType(from.Type)
	if from.LocalhostProfile != nil {
		out.WithLocalhostProfile(*from.LocalhostProfile)
	}
	return out
}

func runtimeDefault() *corev1ac.SeccompProfileApplyConfiguration {
	return corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault)
}

// scratchBytes bounds the temporary files of the database's sorts.
const scratchBytes = 64 << 20

func volumes(network *v1alpha1.DiseqNetwork, validator string) []*corev1ac.VolumeApplyConfiguration {
	document := func(volume, name string) *corev1ac.VolumeApplyConfiguration {
		return corev1ac.Volume().WithName(volume).WithConfigMap(corev1ac.ConfigMapVolumeSource().WithName(name))
	}
	return append([]*corev1ac.VolumeApplyConfiguration{
		corev1ac.Volume().WithName("data").
			WithPersistentVolumeClaim(corev1ac.PersistentVolumeClaimVolumeSource().WithClaimName(validator)),
		corev1ac.Volume().WithName("keys").
			WithSecret(corev1ac.SecretVolumeSource().WithSecretName(validator).WithDefaultMode(keyMode)),
		document("genesis", GenesisName(network.Name)),
		document("config", ConfigName(network.Name)),
		document("peers", PeersName(network.Name)),
		corev1ac.Volume().WithName("scratch").
			WithEmptyDir(corev1ac.EmptyDirVolumeSource().WithSizeLimit(*bytesOf(scratchBytes))),
	}, accessVolumes(network)...)
}

// converted converts a value of the API to an apply configuration, which has the same JSON.
func converted[T any](field string, from any) (*T, error) {
	to := new(T)
	raw, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(raw, to)
	}
	if err != nil {
		return nil, fmt.Errorf("spec.podTemplate.%s: %w", field, err)
	}
	return to, nil
}
