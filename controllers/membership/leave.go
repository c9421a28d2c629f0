package membership

import (
	"fmt"
	"slices"
	"strings"
)

// leave decides which validators outside of the set are stopped.
func (p *change) leave(plan *SetPlan, next nextSet) {
	var waiting, stopped []string
	for i := range p.standings {
		s := &p.standings[i]
		switch {
		case s.InSet, (s.Retired || !s.Secret) && !s.Listed && !s.StatefulSet.Exists: // nothing of it is left
		case p.hasName(s.Name): // a member stays, whatever key its Secret holds
		case slices.Contains(next.newcomers, s):
		case p.isNamed(*s):
			plan.Leaving = append(plan.Leaving, s.Name)
			waiting = append(waiting, s.Name+" was named in a set that may come into force, and is stopped after the next change")
		case s.Spent:
			why, keep := p.staysFor(s)
			if why != "" {
				waiting = append(waiting, s.Name+" "+why)
				continue
			}
			stopped = append(stopped, s.Name)
			plan.Drop = append(plan.Drop, Leaver{Member: s.Name, StatefulSet: s.StatefulSet.UID, Spent: true, KeepVolume: keep})
		default:
			stopped = append(stopped, s.Name)
			plan.Drop = append(plan.Drop, Leaver{Member: s.Name, StatefulSet: s.StatefulSet.UID})
		}
	}
	if len(waiting)+len(stopped) == 0 {
		return
	}
	text := ""
	if len(stopped) > 0 {
		text = "stopping " + few(stopped)
	}
	if len(waiting) > 0 {
		text = strings.TrimPrefix(text+"; ", "; ") + fewOf(waiting, "; ")
	}
	if plan.Action == SetKept {
		plan.say(WaitForLeavers, false, fmt.Sprintf("leavers %d", len(waiting)+len(stopped)),
			"the set is threshold %d of %d validators, as the spec asks for; %s", p.Set.Threshold, len(p.Set.Validators), text)
		return
	}
	plan.Message += "; " + text
}

// staysFor says what a validator that has left the set is still needed for; empty if it may be
// stopped. keep says that its volume must stay.
//
// Until every member whose node runs is above the change, a node that was left behind could be
// shown blocks that are signed with the keys of those that left, and nobody else would know better.
// Messages that it answered with 202 may be on disks of validators that leave, and on no others.
func (p *change) staysFor(s *Standing) (why string, keep bool) {
	if !s.StatefulSet.Exists {
		return "", true // it was stopped by an earlier operator, or by a person
	}
	above := 0
	for i := range p.standings {
		m := &p.standings[i]
		switch {
		case !m.InSet:
		case m.Answer != nil && m.Answer.Height > p.Set.Height:
			above++
		case m.runs():
			return fmt.Sprintf("waits until %s is above height %d, where the set changed: %s", m.Name, p.Set.Height, m.position()), false
		}
	}
	checkpoint := p.File.Checkpoint
	switch {
	case above < p.Set.Threshold:
		return fmt.Sprintf("waits until %d validators are above height %d, where the set changed: %d are",
			p.Set.Threshold, p.Set.Height, above), false
	case checkpoint == nil || checkpoint.Height < p.Set.Height:
		return fmt.Sprintf("waits until the peers file has the checkpoint of height %d", p.Set.Height), false
	case s.Mute:
		return "", true
	case s.Answer == nil:
		return "does not answer, and is stopped after a minute of silence", false
	case s.Answer.Pool.HeldMessages == nil:
		return fmt.Sprintf("is at height %d, and does not know yet that it has left", s.Answer.Height), false
	case *s.Answer.Pool.HeldMessages > 0:
		return fmt.Sprintf("holds %d messages that are not final yet", *s.Answer.Pool.HeldMessages), false
	}
	return "", false
}

// runs says that the node of a member may be running: a pod that Kubernetes cannot run does not,
// nor does one that has been silent for a minute.
func (s *Standing) runs() bool {
	return s.Answer != nil || s.Pod != nil && s.Pod.Waiting == "" && s.Pod.Scheduled && !s.Mute
}

// position says at which height a member is, as far as is known.
func (s *Standing) position() string {
	if s.Answer == nil {
		return "it " + s.Why
	}
	return fmt.Sprintf("it is at height %d", s.Answer.Height)
}
