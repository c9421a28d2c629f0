package status

import (
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// Of returns the status of the observation. Conditions keep their transition times while their
// status stays. Without an answer of a node, its height and phase stay as they were last seen, and
// so do the height and time of the network.
func Of(o Observation) v1alpha1.DiseqNetworkStatus {
	v := o.view()
	n, t := v.n, v.t
	status := v1alpha1.DiseqNetworkStatus{
		ObservedGeneration: o.Generation,
		ChainID:            o.ChainID,
		GenesisHash:        o.GenesisHash,
		Threshold:          int32(t),
		Validators:         int32(n),
		ReadyValidators:    int32(v.caughtUp),
		DisruptionsAllowed: int32(max(0, v.caughtUp-t)),
		Selector:           o.Selector,
		Height:             reached(o.Network.Seen, o.Old.Height),
		FinalizedTime:      o.Old.FinalizedTime,
		Members:            members(v, o.Old.Members),
		SetGeneration:      o.Old.SetGeneration,
		Checkpoint:         o.Old.Checkpoint.DeepCopy(),
		Change:             o.Set.Brief,
		Restarted:          o.Restarted,
		FailureDomains:     v.failureDomains(),
		Adopted:            adopted(o),
		LastObserved:       &metav1.Time{Time: o.Now.Truncate(time.Second)}, // as the API server stores it
	}
	set := o.Network.Seen.Set
	if set.Known() {
		status.SetGeneration, status.Checkpoint = int64(set.Generation), nil
	}
	if set.Generation > 0 {
		status.Checkpoint = &v1alpha1.Checkpoint{Height: height(set.Height), Hash: set.Hash.String()}
	}
	if n > 0 {
		tolerance := consensus.Tolerance(n, t)
		status.Tolerance = &v1alpha1.Tolerance{
			Crash:                  int32(tolerance.Crash),
			Byzantine:              int32(tolerance.Byzantine),
			ByzantineWithSynchrony: int32(tolerance.ByzantineWithSynchrony),
		}
	}
	switch {
	case set.Delta > 0:
		status.SynchronyDelta = &metav1.Duration{Duration: set.Delta}
	case !set.Known():
		status.SynchronyDelta = o.Old.SynchronyDelta
	}
	if at := finalized(o.Network.Seen, o.Now); !at.IsZero() && (status.FinalizedTime == nil || status.FinalizedTime.Time.Before(at)) {
		status.FinalizedTime = &metav1.Time{Time: at}
	}
	for _, c := range o.Old.Conditions {
		status.Conditions = append(status.Conditions, *c.DeepCopy())
	}
	for _, c := range Conditions(o) {
		meta.SetStatusCondition(&status.Conditions, c)
	}
	return status
}

// adopted are the objects that the network took over, once it has its chain.
func adopted(o Observation) []string {
	objects := slices.Clone(o.Old.Adopted)
	for _, object := range o.Adopted {
		if o.GenesisHash != "" && !slices.Contains(objects, object) {
			objects = append(objects, object)
		}
	}
	return objects
}

// reached is the height of the chain: the highest that was ever shown, so that it does not fall
// while nodes restart. A height that more validators have reached than may lie takes its place. So
// does a lower one, if every validator answers and they show that the old one was false.
func reached(n membership.Network, old int64) int64 {
	at, credible := n.Reached()
	now := height(at)
	switch {
	case !credible:
		return old
	case now < old && n.AllAnswer() && old-now > membership.Slack:
		return now
	}
	return max(old, now)
}

// height converts a height of the chain for the API, which has no unsigned numbers.
func height(h uint64) int64 { return int64(min(h, math.MaxInt64)) }

// finalized is when the block of the network's height became final, by the clock of the first node
// that saw it; zero if no node knows. As many nodes as may lie do not count: one could name a time
// long ago for ever. A node's clock may be wrong: a time in the future counts as now.
func finalized(n membership.Network, now time.Time) time.Time {
	var times []time.Time
	for _, m := range n.Members {
		if m.Answer == nil || m.Answer.Height != n.Height() {
			continue
		}
		if at := m.Answer.FinalizedTime(); !at.IsZero() {
			times = append(times, at)
		}
	}
	if len(times) == 0 {
		return time.Time{}
	}
	slices.SortFunc(times, time.Time.Compare)
	first := times[min(n.Set.Liars(), len(times)-1)]
	if first.After(now) {
		first = now
	}
	return first.Truncate(time.Second) // as the API server stores it
}

func members(v view, old []v1alpha1.Member) []v1alpha1.Member {
	last := map[string]v1alpha1.Member{}
	for _, m := range old {
		last[m.Name] = m
	}
	members := make([]v1alpha1.Member, len(v.standings))
	for i, s := range v.standings {
		m := v1alpha1.Member{
			Name:      s.Name,
			VolumeUID: string(s.Volume.FirstUID),
			VoteStore: s.VoteStore,
			Phase:     phase(v, s, last[s.Name].Phase),
			Height:    last[s.Name].Height,
			Ready:     s.CaughtUp,
			Reason:    s.Why,
		}
		if v.hibernated() && s.Pod == nil {
			m.Reason = "is hibernated"
		}
		if s.PublicKey != (chain.PublicKey{}) {
			m.PublicKey = s.PublicKey.String()
		}
		for _, r := range s.Resizes() {
			m.Resizes = append(m.Resizes, r.Text)
		}
		if c := s.Volume.Capacity; c != nil {
			m.VolumeSize = new(c.DeepCopy())
		}
		if s.Answer != nil {
			m.Height = height(s.Answer.Height)
		}
		members[i] = m
	}
	return members
}

// phase is where a member is in its life, by the chain and by the answer of its node. Without an
// answer the last phase stays: a validator on a new volume is rejoining, and only its node knows
// when that is over.
func phase(v view, s membership.Standing, last v1alpha1.MemberPhase) v1alpha1.MemberPhase {
	set := v.Network.Seen.Set
	switch {
	case (v.Network.Seen.Chain || v.lost()) && !set.Known() && last != "":
		return last
	case !s.InSet && set.Known():
		return phaseOutside(v, s)
	case !s.InSet:
		return v1alpha1.MemberJoining
	case slices.Contains(v.Set.Leaving, s.Name):
		return v1alpha1.MemberLeaving
	case s.Answer != nil && s.Answer.Role == nodeclient.RoleRejoining:
		return v1alpha1.MemberRejoining
	case s.Answer != nil && s.Answer.Role == nodeclient.RoleValidator:
		return v1alpha1.MemberValidator
	case last == v1alpha1.MemberRejoining, last == "" && s.Volume.Replaced():
		return v1alpha1.MemberRejoining
	}
	return v1alpha1.MemberValidator
}

// phaseOutside is the phase of a member that is not in the set.
func phaseOutside(v view, s membership.Standing) v1alpha1.MemberPhase {
	runs := s.StatefulSet.Exists || s.Listed
	switch {
	case !runs && (s.Retired || s.Spent):
		return v1alpha1.MemberRetired
	case s.Spent, s.Retired, slices.Contains(v.Set.Leaving, s.Name),
		slices.ContainsFunc(v.Set.Drop, func(l membership.Leaver) bool { return l.Member == s.Name }):
		return v1alpha1.MemberLeaving
	case s.Unfit == "" && s.VoteStore:
		return v1alpha1.MemberReady
	}
	return v1alpha1.MemberJoining
}

// Autoscaler is the program that last set the number of validators through the scale subresource,
// by the API server's own record; empty if it was not set there, or by kubectl.
func Autoscaler(object metav1.Object) string {
	for _, f := range object.GetManagedFields() {
		if f.Subresource == "scale" && !strings.HasPrefix(f.Manager, "kubectl") && f.FieldsV1 != nil &&
			strings.Contains(f.FieldsV1.GetRawString(), `"f:validators"`) {
			return f.Manager
		}
	}
	return ""
}
