package status

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kstatus "sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
)

// judged is what kstatus, which Flux uses, says of a network with a status.
func judged(t *testing.T, generation int64, s v1alpha1.DiseqNetworkStatus) *kstatus.Result {
	t.Helper()
	raw, err := json.Marshal(&v1alpha1.DiseqNetwork{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "DiseqNetwork"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", Generation: generation}, Status: s,
	})
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err = json.Unmarshal(raw, u); err != nil {
		t.Fatal(err)
	}
	result, err := kstatus.Compute(u)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func refused(words string) func(*membership.Member) {
	return func(m *membership.Member) { gone(m); m.NoPod = words }
}

// Each state of a network is what kstatus calls it, with the most serious reason.
func TestKstatusJudgesANetworkRightly(t *testing.T) {
	wasUp := before(metav1.ConditionTrue, AllValidatorsReady)
	for _, tt := range []struct {
		name   string
		seen   Observation
		want   kstatus.Status
		reason string // of Ready
		says   string // of what kstatus says
	}{
		{"well", observed(4, 3), kstatus.CurrentStatus, AllValidatorsReady, ""},
		{"well, with evidence of long ago", observed(4, 3, of(witness, 1)), kstatus.CurrentStatus, AllValidatorsReady, ""},
		{"nothing is there yet", observed(4, 3, nothing), kstatus.InProgressStatus, Starting, "0 of 4 validators"},
		{"the pods are being started", observed(4, 3, of(stuck("", "", time.Second), 0, 1, 2, 3)), kstatus.InProgressStatus, Starting, "4 of 4 pods"},
		{"born with a wrong image", observed(4, 3, of(stuck("ImagePullBackOff", "not found", time.Minute), 0, 1, 2, 3)),
			kstatus.FailedStatus, ImagePullFailed, "ImagePullBackOff (not found)"},
		{"born without room for a pod", observed(4, 3, of(refused("exceeded quota: pods"), 0, 1, 2, 3)),
			kstatus.FailedStatus, PodMissing, "exceeded quota: pods"},
		{"refused at birth", observed(4, 3, nothing, problem(NameConflict)), kstatus.FailedStatus, NameConflict, "this is wrong"},
		{"a spec that cannot be made", observed(4, 3, problem(InvalidSpec)), kstatus.FailedStatus, InvalidSpec, "this is wrong"},
		{"more vote stores lost than the chain can do without", observed(4, 3, of(rejoins, 1, 3)),
			kstatus.FailedStatus, VoteStoresLost, "2 of 4 validators have lost their vote stores"},
		{"an update", observed(4, 3, of(outdated, 0, 1)), kstatus.InProgressStatus, RollingUpdate, "restarting demo-v0"},
		{"an update with one away", observed(4, 3, of(outdated, 1), of(gone, 0)), kstatus.InProgressStatus, RollingUpdate, "restarting demo-v1"},
		{"an update that waits for validators", observed(4, 3, of(outdated, 0, 1, 2, 3), of(silent, 0, 1), wasUp),
			kstatus.InProgressStatus, QuorumLost, "restarting demo-v0"},
		{"an update that a bad image stopped", observed(4, 3, of(outdated, 1), of(stuck("ImagePullBackOff", "not found", time.Second), 0), wasUp),
			kstatus.FailedStatus, ImagePullFailed, "demo-v0 does not run: ImagePullBackOff (not found). restarting demo-v1 would leave 2 voting"},
		{"an update that a quota stopped", observed(4, 3, of(outdated, 1), of(refused("exceeded quota: pods"), 0), wasUp),
			kstatus.FailedStatus, PodMissing, "exceeded quota: pods"},
		{"a bad image is being repaired", observed(4, 3, of(stuck("ErrImagePull", "", time.Second), 0), of(outdated, 0)),
			kstatus.InProgressStatus, ImagePullFailed, "replacing demo-v0"},
		{"an update that needs downtime", observed(4, 4, of(outdated, 0, 1)), kstatus.FailedStatus, RestartNeedsDowntime, "allow-downtime"},
		{"a scaling", observed(4, 3, scaled), kstatus.InProgressStatus, ChangingSet, "0 of 3 newcomers are ready"},
		{"a scaling without room", observed(4, 3, wants(5, 3), newcomers(1, stuck("Unschedulable", "0/3 nodes are available", time.Hour))),
			kstatus.FailedStatus, Unschedulable, "0/3 nodes are available"},
		{"a pod is coming back", observed(4, 3, of(gone, 1), wasUp), kstatus.InProgressStatus, StartingPods, "demo-v1 has no pod"},
		{"a validator is behind", observed(4, 3, of(lags, 1), wasUp), kstatus.InProgressStatus, Behind, "demo-v1 is 14 blocks behind"},
		{"a validator is rejoining", observed(4, 3, of(rejoins, 1), wasUp), kstatus.InProgressStatus, Rejoining, "demo-v1 is rejoining"},
		{"a validator is killed again and again", observed(4, 3, of(stuck("CrashLoopBackOff", "OOMKilled", time.Minute), 1), wasUp),
			kstatus.FailedStatus, CrashLooping, "OOMKilled"},
		{"a validator is killed and a write is refused", observed(4, 3, problem(WriteRefused), of(stuck("CrashLoopBackOff", "OOMKilled", time.Minute), 1), wasUp),
			kstatus.FailedStatus, CrashLooping, "OOMKilled); this is wrong"},
		{"the quorum is lost, and a write is refused", observed(4, 3, problem(WriteRefused), of(gone, 1, 2), wasUp),
			kstatus.FailedStatus, QuorumLost, "this is wrong"},
		{"the quorum is lost for a while", observed(4, 3, of(gone, 1, 2), wasUp), kstatus.InProgressStatus, QuorumLost, "demo-v1 has no pod"},
		{"nobody has room for messages", observed(4, 3, of(full, 0, 1, 2, 3), wasUp), kstatus.FailedStatus, SubmissionsRefused, "increase spec.storage.size"},
		{"paused", observed(4, 3, paused), kstatus.InProgressStatus, Paused, "spec.paused is true"},
		{"paused in an update", observed(4, 3, of(outdated, 0), paused), kstatus.InProgressStatus, Paused, "1 of 4 pods outdated"},
		{"paused in a scaling", observed(4, 3, scaled, paused), kstatus.InProgressStatus, Paused, "spec.paused is true"},
		{"hibernated", observed(4, 3, hibernates, of(gone, 0, 1, 2, 3)), kstatus.CurrentStatus, Hibernated, ""},
		{"the operator was started and nobody answers", observed(4, 3, unknown, of(silent, 0, 1, 2, 3), before(metav1.ConditionTrue, ThresholdReady)),
			kstatus.InProgressStatus, QuorumLost, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Of(tt.seen)
			got := judged(t, 3, s)
			if ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady); got.Status != tt.want || ready.Reason != tt.reason {
				t.Errorf("kstatus says %s, Ready says %s: %s\nwant %s and %s\n%+v", got.Status, ready.Reason, ready.Message, tt.want, tt.reason, s.Conditions)
			}
			if !strings.Contains(got.Message, tt.says) {
				t.Errorf("kstatus says %q, want %q", got.Message, tt.says)
			}
			if meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReconciling) && meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionStalled) {
				t.Error("it is Reconciling and Stalled")
			}
			if later := judged(t, 4, s); later.Status != kstatus.InProgressStatus {
				t.Errorf("a spec that the operator has not seen is %s", later.Status)
			}
		})
	}
	t.Run("no operator has seen it", func(t *testing.T) {
		// the default of the resource; test/integration shows that it is one
		if got := judged(t, 1, v1alpha1.DiseqNetworkStatus{ObservedGeneration: -1}); got.Status != kstatus.InProgressStatus {
			t.Errorf("kstatus says %s", got.Status)
		}
	})
}

// Ready is True exactly if kstatus calls the network Current, in every case of this package's
// tests: kubectl wait and Flux agree.
func TestReadyAndKstatusAgree(t *testing.T) {
	for _, tt := range cases {
		s := Of(tt.seen)
		ready := meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady)
		if got := judged(t, 3, s); ready != (got.Status == kstatus.CurrentStatus) {
			t.Errorf("%s: Ready is %v, kstatus says %s: %s", tt.name, ready, got.Status, got.Message)
		}
		a := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionAvailable)
		if ready && a.Status != metav1.ConditionTrue && a.Reason != Hibernated {
			t.Errorf("%s: Ready and not Available", tt.name)
		}
	}
}
