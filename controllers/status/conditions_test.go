package status

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/chain"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// observed is a network of n validators as the operator sees it: all are well at height 100, their
// last block is a minute old.
func observed(n, t int, changes ...func(*Observation)) Observation {
	net := membership.Network{Name: "demo", Chain: true, Validators: n, Threshold: t, Set: membership.Set{Threshold: t}, NextSerial: n, Budget: t}
	for i := range n {
		name := fmt.Sprintf("demo-v%d", i)
		volume := types.UID(name + "-volume")
		key := chain.Validator{PublicKey: chain.PublicKey{1, byte(i)}, VRFKey: chain.VRFKey{31: byte(i + 1)}}
		net.Set.Validators = append(net.Set.Validators, chain.NamedValidator{Name: name, Validator: key})
		net.Members = append(net.Members, membership.Member{
			Name: name, Serial: i, Validator: key, Secret: true, Listed: true, Spent: true,
			Volume:      membership.Volume{Exists: true, UID: volume, FirstUID: volume},
			StatefulSet: membership.StatefulSet{Exists: true},
			Pod:         &membership.Pod{Name: name + "-0", UID: "pod", Ready: true, Scheduled: true},
			Answer: &nodeclient.Status{Role: nodeclient.RoleValidator, Ready: true, Height: 100, Validators: n, Threshold: t,
				FinalizedTimestamp: uint64(now.Add(-time.Minute).UnixMilli()) + uint64(i)},
		})
	}
	o := Observation{Generation: 3, Now: now, Network: membership.Shown{Seen: net}, ChainID: "demo-0123abcd", GenesisHash: "ab", Selector: "diseq.io/network=demo"}
	for _, change := range changes {
		change(&o)
	}
	o.Network.Standings = o.Network.Seen.Standings()
	o.Pods, o.Set = membership.PlanPods(o.Network.Seen), membership.PlanSet(o.Network.Seen)
	return o
}

func of(change func(*membership.Member), serials ...int) func(*Observation) {
	return func(o *Observation) {
		for i := range o.Network.Seen.Members {
			if slices.Contains(serials, o.Network.Seen.Members[i].Serial) {
				change(&o.Network.Seen.Members[i])
			}
		}
	}
}

// waits makes it a network with the synchrony wait of 100 ms, which all nodes keep.
func waits(o *Observation) {
	o.Network.Seen.Set.Delta = 100 * time.Millisecond
	for i := range o.Network.Seen.Members {
		if a := o.Network.Seen.Members[i].Answer; a != nil {
			a.Synchrony = &nodeclient.Synchrony{DeltaMS: 100, Healthy: true, Settled: true}
		}
	}
}

func deaf(m *membership.Member) { m.Answer.Synchrony = &nodeclient.Synchrony{DeltaMS: 100} }

func unsettled(m *membership.Member) {
	m.Answer.Synchrony = &nodeclient.Synchrony{DeltaMS: 100, Healthy: true}
}

func fresh(m *membership.Member) { m.Pod.Fresh = true }

func witness(m *membership.Member) { m.Answer.Evidence = 2 }

// found is the status of before, when evidence had been found.
func found(o *Observation) {
	o.Old.Conditions = append(o.Old.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionEvidenceFound, Status: metav1.ConditionTrue, Reason: ValidatorsMisbehaved, Message: "as it was found"})
}

func grows(m *membership.Member) {
	m.Volume.Resize = membership.Resize{Text: "its volume grows from 1Gi to 2Gi: the storage is growing"}
}

func cannotGrow(m *membership.Member) {
	m.Volume.Resize = membership.Resize{Text: "its volume grows from 1Gi to 2Gi and that failed: quota", Failed: true}
}

func resized(m *membership.Member) { m.Pod.Resize.Text = "its pod is being resized" }

func gone(m *membership.Member) { m.Pod, m.Answer = nil, nil }

// notProbed is a validator whose node votes and whose pod Kubernetes has not found ready yet.
func notProbed(m *membership.Member) { m.Pod.Ready, m.Pod.Since = false, now }

func stopping(m *membership.Member) { m.Pod.Terminating = true }

func outdated(m *membership.Member) { m.Pod.Outdated = true }

func lags(m *membership.Member) { m.Answer.Height = 86 }

func rejoins(m *membership.Member) { m.Answer.Role = nodeclient.RoleRejoining }

// full is a validator without room for messages: its pod has not been ready for a while.
func full(m *membership.Member) {
	m.Pod.Ready, m.Pod.Since = false, now.Add(-time.Hour)
	m.Answer.Ready, m.Answer.CaughtUp, m.Answer.StorageLow = false, true, true
	m.Answer.Reason = "storage is low: 100 MiB are free on the disk, 512 MiB must be"
}

// joins is a validator that is not in the set and may be in the next one.
func joins(m *membership.Member) {
	m.PublicKey, m.Spent, m.VoteStore, m.Steady = chain.PublicKey{9, byte(m.Serial)}, false, true, true
	m.Answer.Role, m.Answer.Ready, m.Answer.VoteStore, m.Answer.VotesFromHeight = nodeclient.RoleObserver, false, true, new(uint64)
	m.Pod.Ready, m.Pod.Since = false, now.Add(-time.Hour)
}

// left is a validator that is not in the set any more.
func left(m *membership.Member) {
	joins(m)
	m.Spent = true
}

func silent(m *membership.Member) { m.Answer, m.Silence = nil, errors.New("no answer in time") }

func leaving(m *membership.Member) { m.Volume.Terminating = true }

func noKeyLeft(m *membership.Member) { m.Secret = false }

func stranger(m *membership.Member) {
	m.Answer, m.Silence = nil, fmt.Errorf("10.0.0.1:9090/v1/status: %w", &nodeclient.IdentityError{
		Node: nodeclient.Node{Name: m.Name, Address: "10.0.0.1:9090", ChainID: "demo-0123abcd"}, ChainID: "other"})
}

func stuck(why, message string, since time.Duration) func(*membership.Member) {
	return func(m *membership.Member) {
		m.Answer = nil
		m.Pod.Ready, m.Pod.Waiting, m.Pod.Message, m.Pod.Since = false, why, message, now.Add(-since)
	}
}

func nothing(o *Observation) {
	o.ChainID, o.GenesisHash = "", ""
	o.Network.Seen.Chain, o.Network.Seen.Set = false, membership.Set{}
	o.Network.Seen.Members = o.Network.Seen.Members[:1]
	m := &o.Network.Seen.Members[0]
	m.Pod, m.Answer, m.StatefulSet, m.Volume = nil, nil, membership.StatefulSet{}, membership.Volume{}
}

func before(status metav1.ConditionStatus, reason string) func(*Observation) {
	return func(o *Observation) {
		o.Old.Conditions = append(o.Old.Conditions, metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: status, Reason: reason})
	}
}

func problem(reason string) func(*Observation) {
	return func(o *Observation) {
		o.Problems = append(o.Problems, &Problem{Reason: reason, Message: "this is wrong"})
	}
}

func says(reason, message string) func(*Observation) {
	return func(o *Observation) { o.Problems = append(o.Problems, &Problem{Reason: reason, Message: message}) }
}

// lost is a network that had a genesis document.
func lost(o *Observation) {
	o.GenesisHash, o.Old.GenesisHash, o.Old.Validators, o.Old.Threshold = "ab", "ab", 4, 3
}

func paused(o *Observation) { o.Network.Seen.Paused = true }

func hibernates(o *Observation) { o.Network.Seen.Hibernated = true }

func scaled(o *Observation) { o.Network.Seen.Validators, o.Network.Seen.Threshold = 7, 4 }

// wants asks for another set.
func wants(n, t int) func(*Observation) {
	return func(o *Observation) { o.Network.Seen.Validators, o.Network.Seen.Threshold = n, t }
}

// newcomers adds validators that may join, with the changes.
func newcomers(n int, changes ...func(*membership.Member)) func(*Observation) {
	return func(o *Observation) {
		for range n {
			m := o.Network.Seen.Members[0]
			pod, answer := *m.Pod, *m.Answer
			m.Pod, m.Answer, m.Serial = &pod, &answer, len(o.Network.Seen.Members)
			m.Name = fmt.Sprintf("demo-v%d", m.Serial)
			joins(&m)
			for _, change := range changes {
				change(&m)
			}
			o.Network.Seen.Members = append(o.Network.Seen.Members, m)
		}
		o.Network.Seen.NextSerial = len(o.Network.Seen.Members)
	}
}

// protected has the budget of a change.
func protected(o *Observation) { o.Network.Seen.Budget, o.Network.Seen.Strict = 6, true }

// unknown is a network of which no node has told the set.
func unknown(o *Observation) {
	o.Network.Seen.Set = membership.Set{}
	o.Old.Validators, o.Old.Threshold = 4, 3
}

// changed is a network whose set has changed once.
func changed(o *Observation) {
	o.Network.Seen.Set.Generation, o.Network.Seen.Set.Height = 1, 90
	o.Network.Seen.File.Checkpoint = &chain.Checkpoint{Height: 90}
	for i := range o.Network.Seen.Members {
		if a := o.Network.Seen.Members[i].Answer; a != nil {
			a.Generation = 1
		}
	}
}

// pending is a network whose next set is declared.
func pending(o *Observation) {
	protected(o)
	o.Network.Seen.File.Target = membership.PlanSet(o.Network.Seen).Target
}

// verdicts are "status reason: message" by condition. A message may be the beginning of what is
// wanted.
type verdicts struct{ available, progressing, degraded, quorum, membership, evidence string }

var cases = []struct {
	name string
	seen Observation
	want verdicts
}{
	{"all is well", observed(4, 3), verdicts{
		available:   "True AllValidatorsReady: all 4 validators are ready and caught up, threshold 3",
		progressing: "False UpToDate: all 4 pods have the wanted template",
		degraded:    "False AsExpected: no problems detected",
		quorum:      "True SpareValidators: 1 more may fail: 4 of 4 validators are ready and caught up, threshold 3",
		membership:  "False SetAsSpecified: 4 validators, threshold 3",
		evidence:    "False NoEvidence: no validator that answers holds evidence of a broken voting rule"}},
	{"all is well with t = n", observed(4, 4), verdicts{
		available: "True AllValidatorsReady", quorum: "False NoSpareValidator: no validator may fail: the threshold equals the number of validators (4 of 4)"}},
	{"a validator is down", observed(4, 3, of(gone, 1)), verdicts{
		available:   "True ThresholdReady: 3 of 4 validators are ready and caught up, threshold 3: demo-v1 has no pod",
		progressing: "True StartingPods: waiting for 1 of 4 pods: demo-v1 has no pod",
		degraded:    "False AsExpected",
		quorum: "False NoSpareValidator: no validator may fail until one more is back: " +
			"3 of 4 validators are ready and caught up, threshold 3: demo-v1 has no pod"}},
	{"a pod is stopping", observed(4, 3, of(stopping, 1)), verdicts{
		progressing: "True StartingPods: waiting for 1 of 4 pods: demo-v1 is stopping"}},
	{"the quorum is lost", observed(4, 3, of(gone, 1, 3), before(metav1.ConditionTrue, ThresholdReady)), verdicts{
		available: "False QuorumLost: nothing becomes final until 1 more are ready: 2 of 4 validators are ready and caught up, threshold 3: " +
			"demo-v1 has no pod, demo-v3 has no pod",
		quorum: "False QuorumLost: nothing becomes final until 1 more are ready"}},
	{"more vote stores are lost than the chain can do without", observed(4, 3, of(rejoins, 1, 3)), verdicts{
		available: "False VoteStoresLost: 2 of 4 validators have lost their vote stores (demo-v1; demo-v3), and with threshold 3 at most 1 may",
		quorum:    "False VoteStoresLost", degraded: "True VoteStoresLost"}},
	{"the quorum is still lost", observed(4, 3, of(gone, 1, 3), before(metav1.ConditionFalse, QuorumLost)), verdicts{
		available: "False QuorumLost"}},

	{"all is well with the synchrony wait", observed(4, 3, waits), verdicts{
		available: "True AllValidatorsReady", degraded: "False AsExpected", quorum: "True SpareValidators"}},
	{"a validator does not hear the others in time", observed(4, 3, waits, of(deaf, 1)), verdicts{
		available: "True ThresholdReady: 3 of 4 validators are ready and caught up, threshold 3: " +
			"demo-v1 abstains: it does not hear enough other validators within 100ms",
		degraded: "True Abstaining: demo-v1 abstains: it does not hear enough other validators within 100ms",
		quorum:   "False NoSpareValidator"}},
	{"a validator has just been started with the synchrony wait", observed(4, 3, waits, of(unsettled, 1), of(fresh, 1)), verdicts{
		available: "True ThresholdReady", degraded: "False AsExpected"}},
	{"too few hear the others in time", observed(4, 3, waits, of(deaf, 1), of(unsettled, 3), before(metav1.ConditionTrue, AllValidatorsReady)),
		verdicts{
			available: "False SynchronyLost: enough validators are up, but nothing becomes final until 1 more hear the others within 100ms: " +
				"2 of 4 validators are ready and caught up, threshold 3: demo-v1 abstains: it does not hear",
			degraded: "True Abstaining: demo-v1 abstains: it does not hear enough other validators within 100ms; demo-v3 abstains until it has heard",
			quorum:   "False SynchronyLost"}},
	{"too few still hear the others in time", observed(4, 3, waits, of(deaf, 1, 3), before(metav1.ConditionFalse, SynchronyLost)), verdicts{
		available: "False SynchronyLost"}},
	{"too few are up, and so the others hear too few", observed(4, 3, waits, of(deaf, 0, 2), of(gone, 1, 3), before(metav1.ConditionFalse, SynchronyLost)),
		verdicts{
			available: "False QuorumLost: nothing becomes final until 1 more are ready: 2 of 4 validators are ready and caught up, threshold 3: " +
				"demo-v1 has no pod, demo-v3 has no pod",
			degraded: "False AsExpected"}},
	{"a network with the synchrony wait starts", observed(4, 3, waits, of(unsettled, 0, 1, 2, 3), of(fresh, 0, 1, 2, 3)), verdicts{
		available: "False Starting: waiting for 3 more to be ready: 0 of 4 validators are ready and caught up, threshold 3: demo-v0 abstains",
		degraded:  "False AsExpected"}},

	{"nodes hold evidence", observed(4, 3, of(witness, 0, 2)), verdicts{
		available: "True AllValidatorsReady", degraded: "False AsExpected",
		evidence: "True ValidatorsMisbehaved: a validator broke the voting rules, or runs twice: demo-v0 holds 2 pieces of evidence; " +
			"demo-v2 holds 2 pieces of evidence. Run `diseq get evidence` on one of these nodes"}},
	{"a node holds one piece of evidence", observed(4, 3, of(func(m *membership.Member) { m.Answer.Evidence = 1 }, 1)), verdicts{
		evidence: "True ValidatorsMisbehaved: a validator broke the voting rules, or runs twice: demo-v1 holds 1 piece of evidence. Run"}},
	{"who held the evidence does not answer", observed(4, 3, found, of(silent, 0)), verdicts{
		evidence: "True ValidatorsMisbehaved: as it was found"}},
	{"all answer, and nobody holds it any more", observed(4, 3, found), verdicts{evidence: "False NoEvidence"}},

	{"nothing is there yet", observed(4, 3, nothing), verdicts{
		available:   "False Starting: waiting for the genesis document of 4 validators",
		progressing: "True Creating: 0 of 4 validators have their key, volume claim and StatefulSet",
		degraded:    "False AsExpected",
		quorum:      "False Starting: waiting for the genesis document of 4 validators",
		membership:  "False NoChainYet: waiting for the genesis document of 4 validators"}},
	{"the objects are being made", observed(4, 3, of(gone, 0, 1, 2, 3),
		of(func(m *membership.Member) { m.StatefulSet.Exists = false }, 2, 3)), verdicts{
		available:   "False Starting: waiting for 3 more to be ready: 0 of 4 validators are ready and caught up, threshold 3: demo-v0 has no pod, ",
		progressing: "True Creating: 2 of 4 validators have their key, volume claim and StatefulSet"}},
	{"the pods are being started", observed(4, 3, of(stuck("", "", time.Second), 0, 1, 2, 3)), verdicts{
		available: "False Starting: waiting for 3 more to be ready: 0 of 4", progressing: "True StartingPods: waiting for 4 of 4 pods: demo-v0 is not ready", degraded: "False AsExpected"}},

	{"an update", observed(4, 3, of(outdated, 0, 1)), verdicts{
		progressing: "True RollingUpdate: restarting demo-v0, which leaves 3 voting (threshold 3)"}},
	{"an update with one away", observed(4, 3, of(outdated, 1), of(gone, 0)), verdicts{
		available:   "True ThresholdReady",
		progressing: "True RollingUpdate: restarting demo-v1 would leave 2 voting (threshold 3): demo-v0 has no pod",
		degraded:    "False AsExpected"}},
	{"an update under lost quorum", observed(4, 3, of(outdated, 0, 1, 2, 3), of(lags, 0, 1)), verdicts{
		progressing: "False WaitingForQuorum: restarting demo-v0 would leave 2 voting (threshold 3): demo-v0 is 14 blocks behind, demo-v1 is 14"}},
	{"an update with t = n", observed(4, 4, of(outdated, 0, 1)), verdicts{
		progressing: "False RestartNeedsDowntime: restarting demo-v0 would leave 3 voting (threshold 4)"}},
	{"an update to a bad image", observed(4, 3, of(outdated, 1), of(stuck("ImagePullBackOff", "not found", time.Second), 0)), verdicts{
		progressing: "False UpdateStuck: restarting demo-v1 would leave 2 voting (threshold 3): demo-v0 does not run: ImagePullBackOff",
		degraded:    "True ImagePullFailed: demo-v0 does not run: ImagePullBackOff (not found)"}},
	{"a bad image is repaired", observed(4, 3, of(stuck("ErrImagePull", "", time.Second), 0), of(outdated, 0)), verdicts{
		progressing: "True RollingUpdate: replacing demo-v0: not ready, with an outdated template"}},
	{"volumes grow", observed(4, 3, of(grows, 0, 2)), verdicts{
		progressing: "True Resizing: waiting for resizes: demo-v0: its volume grows from 1Gi to 2Gi: the storage is growing; demo-v2: its volume",
		degraded:    "False AsExpected"}},
	{"a volume cannot grow", observed(4, 3, of(cannotGrow, 1), of(grows, 2)), verdicts{
		progressing: "True Resizing: waiting for resizes: demo-v2: its volume grows", available: "True AllValidatorsReady",
		degraded: "True ResizeFailed: demo-v1: its volume grows from 1Gi to 2Gi and that failed: quota"}},
	{"a pod is resized in place and a volume grows", observed(4, 3, of(grows, 1), of(resized, 1)), verdicts{
		progressing: "True Resizing: waiting for resizes: demo-v1: its volume grows from 1Gi to 2Gi: the storage is growing, its pod is being resized"}},
	{"volumes grow during an update", observed(4, 3, of(grows, 0), of(outdated, 1)), verdicts{progressing: "True RollingUpdate"}},
	{"paused", observed(4, 3, paused), verdicts{progressing: "False Paused: spec.paused is true: the operator changes nothing"}},
	{"paused in an update", observed(4, 3, of(outdated, 0), paused), verdicts{
		progressing: "False Paused: paused with 1 of 4 pods outdated"}},

	{"hibernated", observed(4, 3, hibernates, of(gone, 0, 1, 2, 3), before(metav1.ConditionTrue, AllValidatorsReady)), verdicts{
		available:   "False Hibernated: spec.hibernated is true: nothing becomes final until it is false",
		progressing: "False Hibernated: spec.hibernated is true: no node runs",
		degraded:    "False AsExpected", quorum: "False Hibernated", membership: "False SetAsSpecified: 4 validators, threshold 3"}},
	{"hibernated before it was born", observed(4, 3, hibernates, nothing), verdicts{
		available: "False Hibernated", progressing: "False Hibernated: spec.hibernated is true: the network is made when it is false",
		degraded: "False AsExpected", membership: "False NoChainYet"}},
	{"nodes stop to hibernate, and there still is a quorum", observed(4, 3, hibernates, of(stopping, 0)), verdicts{
		available:   "True ThresholdReady",
		progressing: "True Hibernating: spec.hibernated is true: waiting for 4 nodes to stop: demo-v0; demo-v1; demo-v2; demo-v3"}},
	{"nodes stop to hibernate", observed(4, 3, hibernates, of(gone, 0, 1), of(stopping, 2, 3)), verdicts{
		available: "False Hibernated", progressing: "True Hibernating: spec.hibernated is true: waiting for 2 nodes to stop: demo-v2; demo-v3",
		degraded: "False AsExpected"}},
	{"a node that did not run stops to hibernate", observed(4, 3, hibernates, of(stuck("CrashLoopBackOff", "", time.Hour), 1), of(gone, 0, 2, 3)), verdicts{
		progressing: "True Hibernating: spec.hibernated is true: waiting for 1 nodes to stop: demo-v1", degraded: "False AsExpected"}},
	{"hibernated, and the operator does not know the set", observed(4, 3, hibernates, unknown, of(gone, 0, 1, 2, 3)), verdicts{
		available: "False Hibernated", progressing: "False Hibernated", degraded: "False AsExpected",
		membership: "Unknown Hibernated: the network is hibernated, and the operator reads the validator set from the nodes when they run again"}},
	{"hibernated, and another set is asked for", observed(4, 3, hibernates, wants(3, 2), of(gone, 0, 1, 2, 3)), verdicts{
		progressing: "False Hibernated",
		membership:  "True Hibernated: the network is hibernated, and a change of the set needs its nodes: set spec.hibernated to false to go on"}},
	{"hibernated with a problem", observed(4, 3, hibernates, of(gone, 0, 1, 2, 3), problem(WriteRefused)), verdicts{
		available: "False Hibernated", progressing: "False WriteRefused", degraded: "True WriteRefused: this is wrong"}},
	{"to be hibernated and paused", observed(4, 3, hibernates, paused, of(gone, 0, 1), before(metav1.ConditionTrue, ThresholdReady)), verdicts{
		available: "False QuorumLost", progressing: "False Paused"}},
	{"hibernated and paused", observed(4, 3, hibernates, paused, of(gone, 0, 1, 2, 3)), verdicts{
		available: "False Hibernated", progressing: "False Paused", degraded: "False AsExpected"}},
	{"awake again", observed(4, 3, of(gone, 0, 1), before(metav1.ConditionFalse, Hibernated)), verdicts{
		available: "False Starting: waiting for 1 more to be ready", progressing: "True StartingPods"}},

	{"another set is asked for", observed(4, 3, scaled), verdicts{
		available:   "True AllValidatorsReady: all 4 validators are ready and caught up, threshold 3",
		progressing: "True ChangingSet: threshold 3 of 4 validators becomes 4 of 7 (joining demo-v4, demo-v5, demo-v6): 0 of 3 newcomers are ready",
		degraded:    "False AsExpected",
		membership:  "True WaitingForNewcomers: threshold 3 of 4 validators becomes 4 of 7 (joining demo-v4, demo-v5, demo-v6): 0 of 3 newcomers are ready"}},
	{"another set is asked for in an update", observed(4, 3, scaled, of(outdated, 0)), verdicts{
		progressing: "True RollingUpdate", membership: "True WaitingForNewcomers"}},
	{"a newcomer catches up", observed(4, 3, wants(5, 3), newcomers(1, lags)), verdicts{
		available: "True AllValidatorsReady: all 4 validators", degraded: "False AsExpected",
		progressing: "True ChangingSet: threshold 3 of 4 validators becomes 3 of 5 (joining demo-v4): 0 of 1 newcomers are ready: demo-v4 is 14 blocks behind"}},
	{"a newcomer finds no room", observed(4, 3, wants(5, 3), newcomers(1, stuck("Unschedulable", "0/3 nodes are available", time.Hour))), verdicts{
		available:   "True AllValidatorsReady",
		progressing: "False WaitingForNewcomers: threshold 3 of 4 validators becomes 3 of 5 (joining demo-v4): 0 of 1 newcomers are ready: demo-v4 does not run",
		degraded:    "True Unschedulable: demo-v4 does not run: Unschedulable (0/3 nodes are available)",
		membership: "True WaitingForNewcomers: threshold 3 of 4 validators becomes 3 of 5 (joining demo-v4): 0 of 1 newcomers are ready: " +
			"demo-v4 does not run: Unschedulable (0/3 nodes are available). Make room for the pods that do not run, or correct the spec. " +
			"Newcomers that the spec no longer asks for go at once"}},
	{"a set is asked for that too few vote for", observed(4, 3, wants(4, 4), of(gone, 1, 2)), verdicts{
		progressing: "True StartingPods",
		membership: "True WaitingForVotes: threshold 3 of 4 validators becomes 4 of 4: no change is possible until 1 more of the 4 validators vote, " +
			"because 3 must endorse it and 2 do not count: demo-v1 has no pod, demo-v2 has no pod. Bring them back"}},
	{"a change waits for an update", observed(4, 3, wants(3, 2), of(outdated, 0)), verdicts{
		progressing: "True RollingUpdate",
		membership:  "True WaitingForUpdate: threshold 3 of 4 validators becomes 2 of 3 (leaving demo-v3): the change waits until the update of the pods is over: restarting demo-v0"}},
	{"the next set is about to be declared", observed(4, 3, wants(3, 2), func(o *Observation) { o.Network.Seen.Budget = 3 }), verdicts{
		membership: "True WaitingForBlock: threshold 3 of 4 validators becomes 2 of 3 (leaving demo-v3): declaring the next set"}},
	{"an autoscaler asks for another set", observed(4, 3, scaled, func(o *Observation) { o.Autoscaler = "kube-controller-manager" }), verdicts{
		membership: "True WaitingForNewcomers: threshold 3 of 4 validators becomes 4 of 7 (joining demo-v4, demo-v5, demo-v6): 0 of 3 newcomers are ready. " +
			"The number of validators was set by kube-controller-manager through the scale subresource"}},
	{"the next set is declared", observed(4, 3, wants(5, 3), newcomers(1), pending), verdicts{
		progressing: "True ChangingSet",
		membership: "True WaitingForBlock: threshold 3 of 4 validators becomes 3 of 5 (joining demo-v4): the next set is declared; 0 of 4 validators " +
			"endorse it, and 3 must; 0 of its members are linked, and 3 must be. Their nodes have not read it yet, which may take two minutes: demo-v0"}},
	{"an update waits for the change", observed(4, 3, wants(3, 2), pending, of(outdated, 0)), verdicts{
		progressing: "True ChangingSet", membership: "True WaitingForBlock"}},
	{"a validator has left", observed(4, 3, changed, newcomers(1, left)), verdicts{
		available: "True AllValidatorsReady", degraded: "False AsExpected", progressing: "True ChangingSet",
		membership: "True WaitingForLeavers: the set is threshold 3 of 4 validators, as the spec asks for; demo-v4 is at height 100, and does not know yet that it has left"}},
	{"a change is asked for, and the network is paused", observed(4, 3, wants(3, 2), paused), verdicts{
		progressing: "False Paused: spec.paused is true",
		membership:  "True Paused: the network is paused: set spec.paused to false to go on. threshold 3 of 4 validators becomes 2 of 3 (leaving demo-v3)"}},
	{"the operator does not know the set", observed(4, 3, unknown, of(gone, 0, 1, 2, 3), before(metav1.ConditionTrue, ThresholdReady)), verdicts{
		available:   "False QuorumLost: the operator does not know the validator set yet",
		progressing: "True StartingPods", membership: "Unknown SetUnknown: the operator does not know the validator set yet"}},
	{"the operator does not know the set of pods that wait", observed(4, 3, unknown, of(stuck("CrashLoopBackOff", "", time.Hour), 0, 1, 2, 3)), verdicts{
		available:   "False Starting: the operator does not know the validator set yet",
		progressing: "False SetUnknown: the operator does not know the validator set yet"}},
	{"new validators are not known to be ready yet", observed(4, 3, changed, protected, of(notProbed, 0, 1, 2, 3), before(metav1.ConditionTrue, ThresholdReady)), verdicts{
		available: "False Starting: the set has just changed, and Kubernetes has to find the pods of its new validators ready"}},
	{"spec.retire names nobody", observed(4, 3, func(o *Observation) { o.Network.Seen.Retire = []string{"demo-v9"} }), verdicts{
		membership: "False SetAsSpecified: 4 validators, threshold 3; spec.retire has names that no validator of this network has: demo-v9"}},

	{"a key is lost", observed(4, 3, of(noKeyLeft, 2)), verdicts{
		progressing: "False KeyMissing: demo-v2 has lost its key Secret: restore it from a backup, because no key is made twice",
		degraded:    "True KeyMissing: demo-v2 has lost its key Secret: restore it from a backup, because no key is made twice"}},
	{"a validator has no room for messages and votes", observed(4, 3, of(full, 2)), verdicts{
		available: "True ThresholdReady: 4 of 4 validators are ready and caught up, threshold 3; no room for messages: demo-v2",
		quorum:    "True SpareValidators: 1 more may fail: 4 of 4 validators are ready and caught up, threshold 3",
		degraded: "True StorageLow: demo-v2 accepts no messages: storage is low: 100 MiB are free on the disk, 512 MiB must be; " +
			"increase spec.storage.size"}},
	{"no validator has room for messages", observed(4, 3, of(full, 0, 1, 2, 3)), verdicts{
		available: "False SubmissionsRefused: every submission is refused until 1 of 4 validators has room on its disk for messages: increase spec.storage.size"}},
	{"a validator is rejoining", observed(4, 3, of(rejoins, 2)), verdicts{
		available: "True ThresholdReady: 3 of 4 validators are ready and caught up, threshold 3: demo-v2 is rejoining and does not vote yet",
		degraded:  "True Rejoining: demo-v2 is rejoining without its earlier votes, and votes again as soon as that is safe"}},
	{"a node is not ready for long", observed(4, 3, of(stuck("", "", startTime), 2)), verdicts{
		progressing: "False UpToDate", degraded: "True NotReady: demo-v2 is not ready"}},
	{"a node is not ready yet", observed(4, 3, of(stuck("", "", startTime-1), 2)), verdicts{
		progressing: "True StartingPods: waiting for 1 of 4 pods: demo-v2 is not ready", degraded: "False AsExpected"}},
	{"a claim and its pod are deleted", observed(4, 3, of(leaving, 2), of(stopping, 2)), verdicts{degraded: "False AsExpected"}},
	{"no place for a pod yet", observed(4, 3, of(stuck("Unschedulable", "0/3 nodes are available", scheduleTime-1), 2)), verdicts{
		degraded: "False AsExpected"}},
	{"a node catches up", observed(4, 3, of(lags, 2), of(func(m *membership.Member) { m.Answer.Ready = false }, 2)), verdicts{
		degraded: "False AsExpected"}},
	{"several things are wrong: what needs somebody comes first", observed(7, 4, of(rejoins, 0), of(silent, 1),
		of(stuck("CrashLoopBackOff", "", time.Second), 2)), verdicts{
		degraded: "True CrashLooping: demo-v2 does not run: CrashLoopBackOff; demo-v1 does not answer: no answer in time; " +
			"demo-v0 is rejoining without its earlier votes, and votes again as soon as that is safe"}},

	{"the genesis document of a network that ran is nowhere", observed(4, 3, nothing, lost, problem(RetainedGenesisMismatch),
		before(metav1.ConditionTrue, AllValidatorsReady)), verdicts{
		available:   "False QuorumLost: the genesis document is not there, so that the operator cannot ask the nodes",
		progressing: "False RetainedGenesisMismatch: this is wrong", degraded: "True RetainedGenesisMismatch: this is wrong",
		quorum: "False QuorumLost", membership: "Unknown SetUnknown: the genesis document is not there"}},
	{"a problem of an earlier operator stood in the place of the reason", observed(4, 3, of(gone, 0, 1, 2, 3), problem(WriteRefused),
		before(metav1.ConditionFalse, WriteRefused), func(o *Observation) { o.Old.Height = 7 }), verdicts{
		available: "False QuorumLost: nothing becomes final until 3 more are ready"}},
	{"an update while a write is refused", observed(4, 3, of(outdated, 0), problem(WriteRefused)), verdicts{
		progressing: "True RollingUpdate: restarting demo-v0, which leaves 3 voting (threshold 3). Besides: this is wrong",
		degraded:    "True WriteRefused: this is wrong"}},
	{"nobody makes a pod", observed(4, 3, of(func(m *membership.Member) { gone(m); m.NoPod = "exceeded quota: pods" }, 1)), verdicts{
		available:   "True ThresholdReady: 3 of 4 validators are ready and caught up, threshold 3: demo-v1 has no pod: exceeded quota: pods",
		progressing: "False UpToDate", degraded: "True PodMissing: demo-v1 has had no pod for 2 minutes: exceeded quota: pods"}},
	{"a machine carries two", observed(4, 3, on("a1 a1 a2 b1", nil)), verdicts{
		quorum: "True SharedMachine: 1 more may fail, but the loss of the machine a1 (demo-v0, demo-v1) would stop the chain"}},
	{"a problem before the start", observed(4, 3, nothing, problem(NameConflict)), verdicts{
		available: "False Starting: waiting for the genesis document of 4 validators", progressing: "False NameConflict: this is wrong",
		degraded: "True NameConflict: this is wrong", quorum: "False Starting"}},
	{"a problem of a network that runs", observed(4, 3, problem(WriteRefused)), verdicts{
		available: "True AllValidatorsReady", progressing: "False WriteRefused: this is wrong", degraded: "True WriteRefused: this is wrong"}},
	{"a problem while the quorum is lost does not hide the cause", observed(4, 3, problem(WriteRefused),
		of(stuck("CrashLoopBackOff", "OOMKilled, exit code 137", time.Minute), 1, 3), before(metav1.ConditionTrue, ThresholdReady)), verdicts{
		available:   "False QuorumLost: nothing becomes final until 1 more are ready: 2 of 4 validators are ready and caught up",
		progressing: "False WriteRefused: this is wrong",
		degraded: "True CrashLooping: demo-v1 does not run: CrashLoopBackOff (OOMKilled, exit code 137); " +
			"demo-v3 does not run: CrashLoopBackOff (OOMKilled, exit code 137); this is wrong",
		quorum: "False QuorumLost"}},
	{"admission rewrites what the operator writes", observed(4, 3, func(o *Observation) { o.Rewritten = []string{"StatefulSet spec.a", "Service spec.b"} }), verdicts{
		available:   "True AllValidatorsReady",
		progressing: "False UpToDate: all 4 pods have the wanted template; the cluster's admission rewrites StatefulSet spec.a; Service spec.b",
		degraded:    "False AsExpected", quorum: "True SpareValidators"}},
	{"several problems: the most serious one comes first", observed(4, 3, says(WriteRefused, "a quota"), says(NameConflict, "a name"),
		says("Unheard", "a riddle"), says(WriteRefused, "a webhook"), of(lags, 1)), verdicts{
		available:   "True ThresholdReady",
		progressing: "False NameConflict: a name; a quota; a webhook; a riddle",
		degraded:    "True NameConflict: a name; a quota; a webhook; a riddle; demo-v1 is 14 blocks behind"}},
}

func TestConditions(t *testing.T) {
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			got := Conditions(tt.seen)
			for i, want := range []string{
				tt.want.available, tt.want.progressing, tt.want.degraded, tt.want.quorum, tt.want.membership, tt.want.evidence,
			} {
				c := got[i]
				kind := []string{"Available", "Progressing", "Degraded", "QuorumHealthy", "MembershipChanging", "EvidenceFound"}[i]
				if c.Type != kind || c.ObservedGeneration != 3 || !c.LastTransitionTime.Time.Equal(now) {
					t.Errorf("%+v, want type %s of generation 3", c, kind)
				}
				if text := fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message); !strings.HasPrefix(text, want) {
					t.Errorf("%s\ngot  %s\nwant %s", kind, text, want)
				}
				if c.Message == "" || len(c.Message) > longest+3 {
					t.Errorf("%s has a message of %d bytes", kind, len(c.Message))
				}
			}
		})
	}
}

// A message that says what is waited for has a number in it, or the name of who is waited for.
func TestEveryFalseSaysWhatIsWaitedFor(t *testing.T) {
	done := []string{UpToDate, AsExpected, Paused, Hibernated, NoEvidence} // these wait for nothing
	for _, tt := range cases {
		for _, c := range Conditions(tt.seen) {
			if c.Status == metav1.ConditionFalse && tt.seen.Problems == nil && !slices.Contains(done, c.Reason) &&
				!regexp.MustCompile(`\d`).MatchString(c.Message) {
				t.Errorf("%s: %s=False/%s: %s", tt.name, c.Type, c.Reason, c.Message)
			}
		}
	}
}

// The API server refuses a status whose messages are longer than 32768 bytes.
func TestMessagesAreBounded(t *testing.T) {
	o := observed(100, 51, of(func(m *membership.Member) {
		stuck("CreateContainerConfigError", strings.Repeat("long ", 10_000), time.Hour)(m)
	}, slices.Collect(func(yield func(int) bool) {
		for i := range 100 {
			if !yield(i) {
				return
			}
		}
	})...), func(o *Observation) {
		o.Problems = []*Problem{{Reason: WriteRefused, Message: strings.Repeat("ä", 40_000)}}
	})
	for _, c := range Conditions(o) {
		if len(c.Message) > longest+3 {
			t.Errorf("%s has a message of %d bytes", c.Type, len(c.Message))
		}
	}
}

// reasons are the constants of reasons.go.
func reasons(t *testing.T) []string {
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		name := spec.Names[0].Name
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil || value != name || !regexp.MustCompile(`^[A-Z][A-Za-z]+$`).MatchString(value) {
			t.Errorf("reason %s is %q, want the same CamelCase word", name, value)
		}
		if !strings.HasPrefix(spec.Doc.Text(), name+":") {
			t.Errorf("reason %s has no comment that says what it means", name)
		}
		found = append(found, value)
		return true
	})
	if len(found) < 20 {
		t.Fatalf("found only %v", found)
	}
	return found
}

func TestEveryReasonIsReachable(t *testing.T) {
	reached := map[string]bool{}
	for _, tt := range cases {
		for _, c := range Conditions(tt.seen) {
			reached[c.Reason] = true
		}
	}
	for _, tt := range policyCases {
		for _, c := range Conditions(tt.seen) {
			reached[c.Reason] = true
		}
	}
	for _, tt := range accessCases {
		for _, c := range Conditions(tt.seen) {
			reached[c.Reason] = true
		}
	}
	// The reconcile finds these; here they only have to arrive.
	for _, reason := range []string{NameConflict, RetainedGenesisMismatch, KeyMismatch, KeyMissing, InvalidSpec, AccessFilesMissing, WriteRefused, ChangeContested, VolumeCannotGrow} {
		for _, c := range Conditions(observed(4, 3, nothing, problem(reason)))[1:3] { // Progressing, Degraded
			if c.Reason != reason {
				t.Errorf("%s is %s, want %s", c.Type, c.Reason, reason)
			}
			reached[c.Reason] = true
		}
	}
	for _, reason := range reasons(t) {
		if !reached[reason] {
			t.Errorf("no case reaches %s", reason)
		}
		delete(reached, reason)
	}
	for reason := range reached {
		t.Errorf("reason %s is not in reasons.go", reason)
	}
}

// docs/operations.md says of every reason what it means and what to do.
func TestEveryReasonIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Kubernetes: conditions and reasons\n")
	if !found {
		t.Fatal("docs/operations.md has no section \"Kubernetes: conditions and reasons\"")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	row := regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| [^|]+ \\| [^|]+ \\|$")
	var documented []string
	for _, match := range row.FindAllStringSubmatch(section, -1) {
		documented = append(documented, match[1])
	}
	known := reasons(t)
	for _, reason := range known {
		if !slices.Contains(documented, reason) {
			t.Errorf("the table has no row for %s", reason)
		}
	}
	for i, reason := range documented {
		if !slices.Contains(known, reason) {
			t.Errorf("the table has a row for %s, which is no reason", reason)
		}
		if slices.Contains(documented[:i], reason) {
			t.Errorf("the table has two rows for %s", reason)
		}
	}
}

// A validator that lost its vote store votes again only if enough others decide heights. With more
// of them than n - t nobody waits for anything any more, and the status says so.
func TestMoreLostVoteStoresThanTheChainCanDoWithoutAreTold(t *testing.T) {
	for _, tt := range []struct {
		n, t, lost int
		over       bool
	}{
		{4, 3, 1, false}, {4, 3, 2, true}, {4, 3, 4, true}, {4, 4, 1, true}, {7, 5, 2, false}, {7, 5, 3, true}, {1, 1, 1, true},
	} {
		serials := make([]int, tt.lost)
		for i := range serials {
			serials[i] = i
		}
		conditions := Conditions(observed(tt.n, tt.t, of(rejoins, serials...)))
		degraded := meta.FindStatusCondition(conditions, v1alpha1.ConditionDegraded)
		available := meta.FindStatusCondition(conditions, v1alpha1.ConditionAvailable)
		want, is := Rejoining, available.Reason
		if tt.over {
			want = VoteStoresLost
		}
		if degraded.Reason != want || (is == VoteStoresLost) != tt.over {
			t.Errorf("%d of %d, threshold %d: Degraded %s, Available %s", tt.lost, tt.n, tt.t, degraded.Reason, is)
		}
		if tt.over && (!strings.Contains(degraded.Message, "demo-v0") || !strings.Contains(degraded.Message, "height 100") ||
			strings.Contains(degraded.Message, "votes again as soon as")) {
			t.Errorf("the message is %s", degraded.Message)
		}
	}
}
