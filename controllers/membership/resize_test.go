package membership

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestAVolumeThatGrowsSaysHowFarItIs(t *testing.T) {
	condition := func(kind corev1.PersistentVolumeClaimConditionType, message string) []corev1.PersistentVolumeClaimCondition {
		return []corev1.PersistentVolumeClaimCondition{
			{Type: "ModifyingVolume", Status: corev1.ConditionTrue}, {Type: corev1.PersistentVolumeClaimResizing, Status: corev1.ConditionFalse},
			{Type: kind, Status: corev1.ConditionTrue, Message: message},
		}
	}
	for name, tt := range map[string]struct {
		has, wants string
		state      corev1.ClaimResourceStatus
		conditions []corev1.PersistentVolumeClaimCondition
		want       string
		failed     bool
	}{
		"not bound":              {"", "20Gi", "", nil, "", false},
		"as large as asked for":  {"10Gi", "10Gi", "", nil, "", false},
		"larger than asked for":  {"12Gi", "10Gi", "", nil, "", false},
		"not begun":              {"10Gi", "20Gi", "", nil, "its volume grows from 10Gi to 20Gi: the driver of its storage class has not begun", false},
		"the storage grows":      {"10Gi", "20Gi", "ControllerResizeInProgress", nil, "its volume grows from 10Gi to 20Gi: the storage is growing", false},
		"an older driver":        {"10Gi", "20Gi", "", condition("Resizing", ""), ": the storage is growing", false},
		"the file system waits":  {"10Gi", "20Gi", "", condition("FileSystemResizePending", "Waiting"), ": the file system grows when a pod mounts the volume", false},
		"the node has not begun": {"10Gi", "20Gi", "NodeResizePending", condition("FileSystemResizePending", ""), ": the file system grows when a pod mounts", false},
		"the file system grows":  {"10Gi", "20Gi", "NodeResizeInProgress", nil, ": the file system is growing", false},
		"the storage cannot":     {"10Gi", "20Gi", "ControllerResizeInfeasible", nil, "and that failed: the storage cannot grow to this size", true},
		"the file system cannot": {"10Gi", "20Gi", "NodeResizeInfeasible", nil, "and that failed", true},
		"the storage failed": {"10Gi", "20Gi", "ControllerResizeInfeasible", condition("ControllerResizeError", "quota of 100Gi\nexceeded"),
			"its volume grows from 10Gi to 20Gi and that failed: quota of 100Gi", true},
		"the file system failed": {"10Gi", "20Gi", "NodeResizeInProgress", condition("NodeResizeError", "no space"), "failed: no space", true},
	} {
		claim := &corev1.PersistentVolumeClaim{}
		claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(tt.wants)}
		claim.Status.Conditions = tt.conditions
		if tt.has != "" {
			claim.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(tt.has)}
		}
		if tt.state != "" {
			claim.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{corev1.ResourceStorage: tt.state}
		}
		v := ObserveVolume(claim)
		if !strings.Contains(v.Resize.Text, tt.want) || (v.Resize.Text == "") != (tt.want == "") || v.Resize.Failed != tt.failed {
			t.Errorf("%s: %+v, want %q, failed %v", name, v.Resize, tt.want, tt.failed)
		}
		if (v.Capacity == nil) != (tt.has == "") {
			t.Errorf("%s: capacity %v", name, v.Capacity)
		}
	}
}

func TestAPodThatIsResizedInPlaceSaysHowFarItIs(t *testing.T) {
	for name, tt := range map[string]struct {
		condition corev1.PodCondition
		want      string
		failed    bool
	}{
		"none":       {corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, "", false},
		"over":       {corev1.PodCondition{Type: "PodResizeInProgress", Status: corev1.ConditionFalse}, "", false},
		"going on":   {corev1.PodCondition{Type: "PodResizeInProgress", Status: corev1.ConditionTrue}, "its pod is being resized", false},
		"failing":    {corev1.PodCondition{Type: "PodResizeInProgress", Status: corev1.ConditionTrue, Reason: "Error", Message: "memory in use"}, "the resize of its pod failed: memory in use", true},
		"waiting":    {corev1.PodCondition{Type: "PodResizePending", Status: corev1.ConditionTrue, Reason: "Deferred", Message: "not enough cpu"}, "waits for room on its machine: not enough cpu", false},
		"impossible": {corev1.PodCondition{Type: "PodResizePending", Status: corev1.ConditionTrue, Reason: "Infeasible"}, "is impossible on its machine", true},
	} {
		pod := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{tt.condition}}}
		got := Set{}.ObservePod(pod, false, time.Now()).Resize
		if !strings.Contains(got.Text, tt.want) || (got.Text == "") != (tt.want == "") || got.Failed != tt.failed {
			t.Errorf("%s: %+v, want %q, failed %v", name, got, tt.want, tt.failed)
		}
	}
}

// The node's container needs no name: its trouble is the validator's.
func TestTheTroubleOfASidecarNamesIt(t *testing.T) {
	for name, want := range map[string]string{"node": "no such image", "logs": "container logs: no such image"} {
		pod := &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such image"}}},
		}}}
		if got := (Set{}).ObservePod(pod, false, time.Now()); got.Waiting != "ErrImagePull" || got.Message != want {
			t.Errorf("%s: %s: %s", name, got.Waiting, got.Message)
		}
	}
}
