package membership

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Resize is a change of the size of a volume, or of the resources of a pod in place, that is not
// complete.
type Resize struct {
	// Text says how far it is, after the validator's name and a colon. Empty if there is none.
	Text string
	// Failed says that it will not complete by itself.
	Failed bool
}

// ObserveVolume takes the parts of a claim that decisions and the status need.
func ObserveVolume(claim *corev1.PersistentVolumeClaim) Volume {
	v := Volume{Exists: true, UID: claim.UID, Terminating: claim.DeletionTimestamp != nil}
	if size, ok := claim.Status.Capacity[corev1.ResourceStorage]; ok {
		v.Capacity = &size
		v.Resize = resizeOf(claim, size)
	}
	return v
}

// stages are the conditions and states of a claim that is resized, as its status has them.
var stages = map[corev1.ClaimResourceStatus]string{
	corev1.PersistentVolumeClaimControllerResizeInProgress: "the storage is growing",
	corev1.PersistentVolumeClaimNodeResizePending:          "the file system grows when a pod mounts the volume",
	corev1.PersistentVolumeClaimNodeResizeInProgress:       "the file system is growing",
}

// resizeOf is the resize of a claim that is bound.
func resizeOf(claim *corev1.PersistentVolumeClaim, has resource.Quantity) Resize {
	wanted := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	text := fmt.Sprintf("its volume grows from %s to %s", &has, &wanted)
	for _, c := range claim.Status.Conditions {
		if (c.Type == corev1.PersistentVolumeClaimControllerResizeError || c.Type == corev1.PersistentVolumeClaimNodeResizeError) &&
			c.Status == corev1.ConditionTrue {
			return Resize{text + " and that failed: " + printable(c.Message, longestCause), true}
		}
	}
	state := claim.Status.AllocatedResourceStatuses[corev1.ResourceStorage]
	if state == corev1.PersistentVolumeClaimControllerResizeInfeasible || state == corev1.PersistentVolumeClaimNodeResizeInfeasible {
		return Resize{text + " and that failed: the storage cannot grow to this size", true}
	}
	if stage, ok := stages[state]; ok {
		return Resize{Text: text + ": " + stage}
	}
	for _, c := range claim.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == corev1.PersistentVolumeClaimFileSystemResizePending:
			return Resize{Text: text + ": " + stages[corev1.PersistentVolumeClaimNodeResizePending]}
		case c.Type == corev1.PersistentVolumeClaimResizing:
			return Resize{Text: text + ": " + stages[corev1.PersistentVolumeClaimControllerResizeInProgress]}
		}
	}
	if wanted.Cmp(has) > 0 {
		return Resize{Text: text + ": the driver of its storage class has not begun"}
	}
	return Resize{}
}

// resizeOfPod is the resize of a pod's resources in place, which somebody other than the operator
// asked for: the operator makes new pods.
func resizeOfPod(pod *corev1.Pod) Resize {
	for _, c := range pod.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		message := printable(c.Message, longestCause)
		if message != "" {
			message = ": " + message
		}
		switch {
		case c.Type == corev1.PodResizePending && c.Reason == corev1.PodReasonInfeasible:
			return Resize{"the resize of its pod is impossible on its machine" + message, true}
		case c.Type == corev1.PodResizeInProgress && c.Reason == corev1.PodReasonError:
			return Resize{"the resize of its pod failed" + message, true}
		case c.Type == corev1.PodResizePending:
			return Resize{Text: "the resize of its pod waits for room on its machine" + message}
		case c.Type == corev1.PodResizeInProgress:
			return Resize{Text: "its pod is being resized" + message}
		}
	}
	return Resize{}
}

// Resizes are the resizes of the member's volume and pod that are not complete.
func (m *Member) Resizes() (all []Resize) {
	if m.Volume.Resize.Text != "" {
		all = append(all, m.Volume.Resize)
	}
	if m.Pod != nil && m.Pod.Resize.Text != "" {
		all = append(all, m.Pod.Resize)
	}
	return all
}
