package status

import (
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
)

// policyCases show each policy by itself. want is "reason: message", or the beginning of that; it
// is empty if the policy is not violated.
var policyCases = []struct {
	name   string
	policy policy
	seen   Observation
	want   string
}{
	{"a problem stopped the reconcile", problemWith(NameConflict), observed(4, 3, problem(NameConflict)), "NameConflict: this is wrong"},
	{"a key is lost", keyMissing, observed(4, 3, of(noKeyLeft, 2)),
		"KeyMissing: demo-v2 has lost its key Secret: restore it from a backup, because no key is made twice"},
	{"there is no key yet, and no genesis document", keyMissing, observed(4, 3, nothing, of(noKeyLeft, 0)), ""},
	{"another node answers", wrongIdentity, observed(4, 3, of(stranger, 2)),
		`WrongIdentity: demo-v2 has another node at its address: 10.0.0.1:9090 answers for chain "other", want "demo-0123abcd"`},
	{"a node does not answer, whichever it is", wrongIdentity, observed(4, 3, of(silent, 2)), ""},
	{"another set runs", wrongSet, observed(4, 3, of(func(m *membership.Member) { m.Answer.Threshold = 4 }, 2)),
		"WrongSet: demo-v2 runs with threshold 4 of 4 validators, but the chain has threshold 3 of 4 validators"},
	{"another wait runs", wrongSet, observed(4, 3, of(deaf, 2)),
		"WrongSet: demo-v2 runs with threshold 3 of 4 validators and the synchrony wait of 100ms, but the chain has " +
			"threshold 3 of 4 validators"},
	{"a node runs without the synchrony wait", wrongSet, observed(4, 3, waits, of(func(m *membership.Member) { m.Answer.Synchrony = nil }, 1)),
		"WrongSet: demo-v1 runs with threshold 3 of 4 validators, but the chain has threshold 3 of 4 validators " +
			"and the synchrony wait of 100ms"},
	{"a claim is deleted", volumeBeingDeleted, observed(4, 3, of(leaving, 2)),
		"VolumeBeingDeleted: demo-v2 will lose its volume and the votes on it when its pod stops, because the volume claim was deleted"},
	{"a claim and its pod are deleted", volumeBeingDeleted, observed(4, 3, of(leaving, 2), of(stopping, 2)), ""},
	{"a wrong image", imagePullFailed, observed(4, 3, of(stuck("ImagePullBackOff", "not found", time.Second), 0)),
		"ImagePullFailed: demo-v0 does not run: ImagePullBackOff (not found)"},
	{"a wrong image is another cause", crashLooping, observed(4, 3, of(stuck("ImagePullBackOff", "not found", time.Second), 0)), ""},
	{"a node ends again and again", crashLooping, observed(4, 3, of(stuck("CrashLoopBackOff", "OOMKilled, exit code 137", time.Second), 2)),
		"CrashLooping: demo-v2 does not run: CrashLoopBackOff (OOMKilled, exit code 137)"},
	{"a node ends again and again, by a clock that is ahead", crashLooping, observed(4, 3, of(stuck("CrashLoopBackOff", "", -time.Hour), 2)),
		"CrashLooping: demo-v2 does not run: CrashLoopBackOff"},
	{"no place for a pod", unschedulable, observed(4, 3, of(stuck("Unschedulable", "0/3 nodes are available", scheduleTime), 2)),
		"Unschedulable: demo-v2 does not run: Unschedulable (0/3 nodes are available)"},
	{"no place for a pod yet", unschedulable, observed(4, 3, of(stuck("Unschedulable", "0/3 nodes are available", scheduleTime-1), 2)), ""},
	{"a pod fails otherwise", podFailed, observed(4, 3, of(stuck("CreateContainerConfigError", "no such key", time.Second), 2)),
		"PodFailed: demo-v2 does not run: CreateContainerConfigError (no such key)"},
	{"a pod that stops has failed", podFailed, observed(4, 3, of(stuck("CreateContainerConfigError", "", time.Second), 2), of(stopping, 2)), ""},
	{"nobody makes a pod", podMissing, observed(4, 3, of(refused("exceeded quota: pods"), 2)),
		"PodMissing: demo-v2 has had no pod for 2 minutes: exceeded quota: pods"},
	{"a pod was there a moment ago", podMissing, observed(4, 3, of(gone, 2)), ""},
	{"nobody makes the pod of a newcomer", podMissing, observed(4, 3, wants(5, 3), newcomers(1, refused("exceeded quota: pods"))),
		"PodMissing: demo-v4 has had no pod for 2 minutes: exceeded quota: pods"},
	{"nobody makes the pod of a validator that has left", podMissing, observed(4, 3, changed, newcomers(1, left, refused("exceeded quota: pods"))), ""},
	{"the controller of StatefulSets is away", statefulSetIgnored, observed(4, 3, of(func(m *membership.Member) { m.StatefulSet.Ignored = true }, 2)),
		"StatefulSetIgnored: demo-v2 has a StatefulSet whose last change its controller has not looked at for 2 minutes"},
	{"a validator is rejoining", rejoining, observed(4, 3, of(rejoins, 2)),
		"Rejoining: demo-v2 is rejoining without its earlier votes, and votes again as soon as that is safe"},
	{"a node does not answer", notAnswering, observed(4, 3, of(silent, 2)), "NotAnswering: demo-v2 does not answer: no answer in time"},
	{"a node is not ready for long", notReady, observed(4, 3, of(stuck("", "", startTime), 2)), "NotReady: demo-v2 is not ready"},
	{"a node is not ready yet", notReady, observed(4, 3, of(stuck("", "", startTime-1), 2)), ""},
	{"a node is cut off", behind, observed(4, 3, of(lags, 2)), "Behind: demo-v2 is 14 blocks behind"},
	{"a node has just been started, and falls behind", behind, observed(4, 3, of(lags, 2), of(fresh, 2)), ""},
	{"a node catches up", behind, observed(4, 3, of(lags, 2), of(func(m *membership.Member) { m.Answer.Ready = false }, 2)), ""},
	{"a validator does not hear the others in time", abstaining, observed(4, 3, waits, of(deaf, 1)),
		"Abstaining: demo-v1 abstains: it does not hear enough other validators within 100ms"},
	{"a validator has just been started with the synchrony wait", abstaining, observed(4, 3, waits, of(unsettled, 1), of(fresh, 1)), ""},
	{"a validator does not hear those that are down", abstaining, observed(4, 3, waits, of(deaf, 0), of(gone, 1, 3)), ""},
	{"a validator says that it observes", notVoting, observed(4, 3, of(func(m *membership.Member) { m.Answer.Role = nodeclient.RoleObserver }, 2)),
		"NotVoting: demo-v2 does not vote: its role is observer"},
	{"a validator that is rejoining has a policy of its own", notVoting, observed(4, 3, of(rejoins, 2)), ""},
}

func TestPolicies(t *testing.T) {
	for _, tt := range policyCases {
		t.Run(tt.name, func(t *testing.T) {
			reason, message, violated := tt.policy(tt.seen.view())
			if violated != (tt.want != "") {
				t.Errorf("violated: %v: %s: %s", violated, reason, message)
			}
			if got := reason + ": " + message; violated && !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestANetworkThatIsWellViolatesNoPolicy(t *testing.T) {
	for _, seen := range []Observation{observed(4, 3), observed(4, 3, waits), observed(4, 3, nothing)} {
		for i, violatedBy := range policies {
			if reason, message, violated := violatedBy(seen.view()); violated {
				t.Errorf("policy %d: %s: %s", i, reason, message)
			}
		}
	}
}
