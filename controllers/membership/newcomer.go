package membership

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// unfit says what a validator that is not in the set lacks to join it, as the end of a sentence
// that begins with its name; empty if it lacks nothing. Its node is judged by its answers alone,
// because its pod is not ready as long as it is not in the set.
func (m *Member) unfit(top uint64) string {
	a := m.Answer
	switch {
	case m.Retired:
		return "has retired"
	case m.lost():
		return "lost its vote store before it was in the set"
	case m.Volume.Terminating:
		return "will lose its volume, which is being deleted"
	case m.Pod == nil:
		return "has no pod"
	case m.Pod.Terminating:
		return "is stopping"
	case a == nil && m.Pod.Waiting != "":
		return "does not run: " + m.Pod.Waiting
	case a == nil && m.Silence != nil:
		return "does not answer: " + m.Silence.Error()
	case a == nil:
		return "does not answer yet"
	case a.Height < top && top-a.Height > Slack:
		return fmt.Sprintf("is %d blocks behind", top-a.Height)
	case !a.VoteStore:
		return "has no vote store yet"
	case a.VotesFromHeight == nil || *a.VotesFromHeight > a.Height+1:
		return "may not vote yet"
	}
	return ""
}

// lost says that a validator had a vote store and has it no longer. It heals in the set, where the
// validator rejoins. Outside of the set the validator is given up, and another name is taken: the
// key never counted.
func (m *Member) lost() bool {
	return m.Volume.Replaced() || m.VoteStore && m.Answer != nil && !m.Answer.VoteStore
}

// ready says that a validator may be named in a target: it is fit, has been so for a while, and
// there is a record of its vote store. Without the record it could make a second one.
func (s *Standing) ready() bool { return s.Unfit == "" && s.Steady && s.VoteStore }

// outside says why a validator that is not in the set does not count.
func (n Network) outside(s *Standing) string {
	switch {
	case s.Spent:
		return "has left the validator set"
	case s.Unfit != "":
		return s.Unfit
	case !s.VoteStore:
		return "has a vote store of which there is no record yet"
	case !s.Steady:
		return fmt.Sprintf("has been caught up for less than %v", settling)
	}
	return "is not in the validator set"
}

// span is since when a node has been fit to join the set, and since when it has not answered; zero
// if it is not so at the last look.
type span struct {
	pod       types.UID
	fit, mute time.Time
}

// lookAgain is the longest time between two looks that are taken for one span. The operator looks
// every two seconds while a set changes.
const lookAgain = 15 * time.Second

// Observe fills in what takes more than one look at the network: [Member.Steady] and [Member.Mute].
// It is called once a look, before decisions are made. The memory is lost with the operator, so
// that the next one waits anew.
func (m *Memory) Observe(n *Network, now time.Time) {
	if now.Sub(m.looked) > lookAgain {
		m.spans = nil
	}
	top, spans := n.Height(), map[string]span{}
	for i := range n.Members {
		member := &n.Members[i]
		s := m.spans[member.Name]
		var pod types.UID
		if member.Pod != nil {
			pod = member.Pod.UID
		}
		s.fit = since(s.fit, now, s.pod == pod && member.unfit(top) == "", member.unfit(top) == "")
		s.mute = since(s.mute, now, member.Answer == nil, member.Answer == nil)
		s.pod = pod
		member.Steady = !s.fit.IsZero() && now.Sub(s.fit) >= settling
		member.Mute = !s.mute.IsZero() && now.Sub(s.mute) >= Damping
		spans[member.Name] = s
	}
	m.spans, m.looked = spans, now
}

// since is since when something has been so: as before if it still is, now if it has just begun.
func since(before, now time.Time, still, is bool) time.Time {
	switch {
	case !is:
		return time.Time{}
	case still && !before.IsZero():
		return before
	}
	return now
}
