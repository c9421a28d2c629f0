package membership

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// Slack is the number of heights that a validator may be behind and still count as caught up. Nodes
// use the same number for their readiness.
const Slack = 10

// Standing says whether a member counts for a quorum, and why not.
type Standing struct {
	Member
	// InSet says that its key is in the set in force.
	InSet bool
	// Back says that its pod is ready and its node answers, is ready and is at most Slack heights
	// behind. The pod of a validator that is not in the set is never ready. A node that only lacks
	// room for messages is back, too: it votes.
	Back bool
	// Abstains says that it is Back, and that the synchrony wait keeps it from voting for the time
	// being.
	Abstains bool
	// CaughtUp says that it is Back and votes: it counts for a quorum.
	CaughtUp bool
	// Why says why it is not caught up, as the end of a sentence that begins with its name. Empty
	// if it is.
	Why string
	// Unfit says of a validator that is not in the set what it lacks to join it, as Why does. Empty
	// if it lacks nothing, and of validators in the set.
	Unfit string
	// Trouble is the trouble that keeps it from counting, if its pod is well and only its node's
	// answer shows that; else empty.
	Trouble Trouble
}

// Trouble is a trouble that only a node's answers show. It may come and go with every look.
type Trouble string

// Troubles of a validator whose pod is ready.
const (
	// Silent: its node does not answer.
	Silent Trouble = "Silent"
	// Unready: its node says that it is not ready.
	Unready Trouble = "Unready"
	// Behind: its node believes itself ready and is more than Slack heights behind.
	Behind Trouble = "Behind"
	// Abstaining: the synchrony wait keeps it from voting.
	Abstaining Trouble = "Abstaining"
)

// Standings are the members of a network, by serial number.
type Standings []Standing

// Standings judges every member.
//
// Members are measured by the highest credible answer, see [Network.Height].
func (n Network) Standings() Standings {
	members := n.bySerial()
	top := n.Height()
	counted := map[chain.PublicKey]bool{}
	standings := make(Standings, len(members))
	for i, m := range members {
		s := Standing{Member: m, InSet: n.Set.Has(m.PublicKey)}
		s.Why = m.absence(top)
		s.Back = s.Why == ""
		switch {
		case !s.InSet && n.Set.Known():
			s.Unfit = m.unfit(top)
			s.Why = n.outside(&s)
		case !s.Back:
		case !s.InSet:
			s.Why = "answers, but the operator does not know the validator set yet"
		case m.Answer.Role == nodeclient.RoleRejoining:
			s.Why = "is rejoining and does not vote yet"
		case m.Answer.Role != nodeclient.RoleValidator:
			s.Why = "does not vote: its role is " + m.Answer.Role
		case counted[m.PublicKey]:
			s.Why = "has the key of another validator" // one key is one vote
		default:
			s.Why = n.Set.abstention(m.Answer)
			s.Abstains = s.Why != ""
			s.CaughtUp = !s.Abstains
			counted[m.PublicKey] = true
		}
		s.Trouble = s.trouble()
		standings[i] = s
	}
	return standings
}

func (n Network) bySerial() []Member {
	return slices.SortedFunc(slices.Values(n.Members), func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Serial, b.Serial), cmp.Compare(a.Name, b.Name))
	})
}

// Height is the height that members are measured by: the highest one that more validators of the
// set claim than may lie. 0 without answers. With fewer answers than that it is the lowest of them.
func (n Network) Height() uint64 {
	height, _ := n.Reached()
	return height
}

// Reached is Height if more validators of the set answer than may lie, so that an honest node has
// reached it.
func (n Network) Reached() (height uint64, ok bool) { return n.Set.credible(n.heights()) }

// AllAnswer says that every validator of the set answers.
func (n Network) AllAnswer() bool {
	return n.Set.Known() && len(n.heights()) == len(n.Set.Validators)
}

// heights are those that validators of the set claim. Of members with one key the first counts.
func (n Network) heights() []uint64 {
	var heights []uint64
	counted := map[chain.PublicKey]bool{}
	for _, m := range n.bySerial() {
		if m.Answer != nil && n.Set.Has(m.PublicKey) && !counted[m.PublicKey] {
			counted[m.PublicKey] = true
			heights = append(heights, m.Answer.Height)
		}
	}
	return heights
}

// credible is the highest height that more validators claim than may lie, of those that they claim.
// Otherwise a single broken or stolen validator could claim an absurd height, and all others would
// look behind. With no more claims than liars it is the lowest claim, and ok is false.
//
// The nodes believe the same claims (package catchup): as many validators may lie as the chain
// withstands while it is safe and live, and one in any case.
func (s Set) credible(claims []uint64) (height uint64, ok bool) {
	if len(claims) == 0 {
		return 0, false
	}
	falling := slices.SortedFunc(slices.Values(claims), func(a, b uint64) int { return cmp.Compare(b, a) })
	liars := s.Liars()
	return falling[min(liars, len(falling)-1)], len(falling) > liars
}

// Liars is how many validators of the set may lie about what they have seen. The word of a single
// validator counts if there is no other one.
func (s Set) Liars() int {
	tolerance := consensus.Tolerance(len(s.Validators), s.Threshold)
	byzantine := tolerance.Byzantine
	if s.Delta > 0 {
		byzantine = tolerance.ByzantineWithSynchrony
	}
	return min(max(1, min(byzantine, tolerance.Crash)), max(0, len(s.Validators)-1))
}

// absence says why the member's node is not back, whether it would vote or not; empty if it is.
func (m *Member) absence(top uint64) string {
	switch {
	case m.Pod == nil && m.NoPod != "":
		return "has no pod: " + m.NoPod
	case m.Pod == nil:
		return "has no pod"
	case m.Pod.Terminating:
		return "is stopping"
	case !m.Pod.Ready && m.Pod.Waiting != "":
		return "does not run: " + m.Pod.Waiting
	case !m.Pod.Ready && m.Answer == nil:
		return "is not ready"
	case m.Answer == nil && m.Silence != nil:
		return "does not answer: " + m.Silence.Error()
	case m.Answer == nil:
		return "does not answer"
	case m.Answer.Height < top && top-m.Answer.Height > Slack:
		return fmt.Sprintf("is %d blocks behind", top-m.Answer.Height)
	case !m.Answer.TakesPart() && m.Answer.Reason != "":
		return "is not ready: " + m.Answer.Reason
	case !m.Answer.TakesPart(), !m.Pod.Ready && !m.Answer.StorageLow:
		return "is not ready"
	}
	return ""
}

// trouble is the trouble of the member that only its node's answer shows; else empty.
func (s *Standing) trouble() Trouble {
	_, other := errors.AsType[*nodeclient.IdentityError](s.Silence)
	switch {
	case s.Pod == nil || !s.Pod.Ready || s.Pod.Terminating, !s.InSet:
		return ""
	case s.Abstains:
		return Abstaining
	case s.Back, other, s.Answer == nil && s.Silence == nil:
		return ""
	case s.Answer == nil:
		return Silent
	case s.Answer.TakesPart():
		return Behind
	}
	return Unready
}

// abstention says why the synchrony wait keeps a validator from voting; empty if it does not. A
// node that does not report its synchrony state counts as abstaining.
func (s Set) abstention(answer *nodeclient.Status) string {
	switch w := answer.Synchrony; {
	case s.Delta == 0:
		return ""
	case w == nil:
		return "does not report its synchrony state (is it an older version?)"
	case !w.Healthy:
		return s.deaf()
	case !w.Settled:
		return fmt.Sprintf("abstains until it has heard enough other validators within %v for a while", s.Delta)
	}
	return ""
}

// deaf says that a validator does not hear enough others in time.
func (s Set) deaf() string {
	return fmt.Sprintf("abstains: it does not hear enough other validators within %v", s.Delta)
}

// Full are the names of the members that count for a quorum and have no room for messages.
func (s Standings) Full() (names []string) {
	for i := range s {
		if s[i].CaughtUp && s[i].Answer.StorageLow {
			names = append(names, s[i].Name)
		}
	}
	return names
}

// CaughtUp is the number of members that count for a quorum.
func (s Standings) CaughtUp() int {
	n := 0
	for i := range s {
		if s[i].CaughtUp {
			n++
		}
	}
	return n
}

// Up is the number of members that would count for a quorum without the synchrony wait.
func (s Standings) Up() int {
	n := 0
	for i := range s {
		if s[i].CaughtUp || s[i].Abstains {
			n++
		}
	}
	return n
}

// Missing says why members of the set do not count, for messages: "demo-v1 is 14 blocks behind,
// demo-v3 has no pod". It leaves out the member with the name except. Empty if all others count.
func (s Standings) Missing(except string) string {
	const most = 5
	var texts []string
	more := 0
	for i := range s {
		switch {
		case s[i].CaughtUp || !s[i].InSet || s[i].Name == except:
		case len(texts) == most:
			more++
		default:
			texts = append(texts, s[i].Name+" "+s[i].Why)
		}
	}
	if more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}
