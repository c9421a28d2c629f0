package membership

import (
	"fmt"
	"strings"
)

// summary says what changes: numbers, and names.
func (p *change) summary(next nextSet) string {
	text := fmt.Sprintf("threshold %d of %d validators becomes %d of %d", p.Set.Threshold, len(p.Set.Validators), p.Threshold, p.Validators)
	joining := make([]string, 0, len(next.newcomers)+next.missing)
	for _, s := range next.newcomers {
		joining = append(joining, s.Name)
	}
	for i := range next.missing {
		joining = append(joining, fmt.Sprintf("%s-v%d", p.Name, p.nextSerial()+i))
	}
	var parts []string
	if len(joining) > 0 {
		parts = append(parts, "joining "+few(joining))
	}
	if len(next.leaving) > 0 {
		parts = append(parts, "leaving "+few(next.leaving))
	}
	if len(parts) == 0 {
		return text
	}
	return text + " (" + strings.Join(parts, "; ") + ")"
}

// unready names the newcomers that are not ready, and says what to do about those that cannot run.
func (p *change) unready(next nextSet) (text string, stuck bool) {
	var texts []string
	for _, s := range next.newcomers {
		if s.ready() {
			continue
		}
		why := p.outside(s)
		if s.Pod != nil && s.Answer == nil && s.Pod.Message != "" {
			why += " (" + s.Pod.Message[:min(len(s.Pod.Message), 256)] + ")"
		}
		if s.Answer == nil && s.Pod != nil && s.Pod.Waiting != "" {
			stuck = true
		}
		texts = append(texts, s.Name+" "+why)
	}
	if len(texts) > 0 {
		text = ": " + few(texts)
	}
	if stuck {
		text += ". Make room for the pods that do not run, or correct the spec. Newcomers that the spec no longer asks for go at once"
	}
	return text, stuck
}

// ordering says how far a declared set is on its way into a block, by the nodes' own word.
func (p *change) ordering(plan *SetPlan, next nextSet) {
	hash := p.standing.Next(uint32(p.Set.Delta.Milliseconds())).Hash()
	endorsed, linked := 0, 0
	var late, refused []string
	for _, v := range p.Set.Validators {
		s := p.byName(v.Name)
		switch {
		case s.Answer == nil:
		case s.Answer.Target == nil || s.Answer.Target.Hash != hash:
			late = append(late, s.Name)
		case s.Answer.Target.Problem != "":
			refused = append(refused, s.Name+": "+s.Answer.Target.Problem)
		default:
			linked = max(linked, s.Answer.Target.Linked)
			if s.Answer.Target.Endorsed {
				endorsed++
			}
		}
	}
	t, votes := p.Set.Threshold, p.standings.CaughtUp()
	plan.say(WaitForBlock, votes < t || len(refused) > 0, fmt.Sprintf("endorsed %d/%d", endorsed, t),
		"%s: the next set is declared; %d of %d validators endorse it, and %d must; %d of its members are linked, and %d must be",
		p.summary(next), endorsed, len(p.Set.Validators), t, linked, p.Threshold)
	if len(refused) > 0 {
		plan.Message += ". Not endorsed by " + few(refused)
	}
	if len(late) > 0 {
		plan.Message += ". Their nodes have not read it yet, which may take two minutes: " + few(late)
	}
	if votes < t {
		plan.Message += fmt.Sprintf(". No change is possible until %d more validators vote: %s. Bring them back",
			t-votes, p.standings.Missing(""))
	}
}

// few joins the first few texts by commas.
func few(texts []string) string { return fewOf(texts, ", ") }

func fewOf(texts []string, separator string) string {
	const most = 5
	if len(texts) <= most {
		return strings.Join(texts, separator)
	}
	return fmt.Sprintf("%s%sand %d more", strings.Join(texts[:most], separator), separator, len(texts)-most)
}
