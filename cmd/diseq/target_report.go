package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/peersfile"
)

// A targetReport says what the next set changes and tolerates, what it takes, and what is to be
// looked at.
type targetReport struct {
	ChainID string     `json:"chain_id"`
	Hash    chain.Hash `json:"hash"`
	Present setReport  `json:"present"`
	Next    setReport  `json:"next"`
	Come    []string   `json:"come"`
	Leave   []string   `json:"leave"`
	Stay    []string   `json:"stay"`
	// Endorsements is nil if no node tells.
	Endorsements *endorsements `json:"endorsements,omitempty"`
	Warnings     []string      `json:"warnings"`
}

type setReport struct {
	Generation uint32                   `json:"generation"`
	Validators int                      `json:"validators"`
	Threshold  int                      `json:"threshold"`
	Tolerance  consensus.FaultTolerance `json:"tolerance"`
}

// endorsements says which validators have endorsed a target, as far as the node knows.
type endorsements struct {
	Needed int      `json:"needed"`
	This   []string `json:"this"`
	Other  []string `json:"other"`
	None   []string `json:"none"`
}

func reportOf(set *chain.NextSet) setReport {
	n, t := len(set.Validators), int(set.Threshold)
	return setReport{set.Generation, n, t, consensus.Tolerance(n, t)}
}

// report compares the next set with the present one. file is the peers file that declares it; nil
// if there is none.
func (h *history) report(next *chain.NextSet, file *peersfile.File) *targetReport {
	come, leave, stay := difference(h.now, next)
	return &targetReport{
		ChainID: h.eras.ChainID(), Hash: next.Hash(), Present: reportOf(h.now), Next: reportOf(next),
		Come: listed(come), Leave: listed(leave), Stay: listed(stay),
		Endorsements: h.endorsements(next), Warnings: h.warnings(next, file, come, leave, stay),
	}
}

// listed are the names of validators; never nil.
func listed(validators []chain.NamedValidator) []string {
	out := make([]string, len(validators))
	for i, v := range validators {
		out[i] = v.Name
	}
	return out
}

// print writes the report for people.
func (r *targetReport) print(w io.Writer) error {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("chain %s, generation %d -> %d, hash %v", r.ChainID, r.Present.Generation, r.Next.Generation, r.Hash)
	for _, part := range []struct {
		what string
		who  []string
	}{{"come ", r.Come}, {"leave", r.Leave}, {"stay ", r.Stay}} {
		if len(part.who) > 0 {
			line("%s       %s", part.what, strings.Join(part.who, ", "))
		}
	}
	a, b := r.Present, r.Next
	line("validators  %d -> %d, threshold %d -> %d", a.Validators, b.Validators, a.Threshold, b.Threshold)
	line("tolerates   %d -> %d down, %d -> %d Byzantine on any network, %d -> %d with the synchrony wait or full certificates",
		a.Tolerance.Crash, b.Tolerance.Crash, a.Tolerance.Byzantine, b.Tolerance.Byzantine,
		a.Tolerance.ByzantineWithSynchrony, b.Tolerance.ByzantineWithSynchrony)
	line("takes       the same target from %d of the present %d validators, and %d of the next %d up and caught up",
		a.Threshold, a.Validators, b.Threshold, b.Validators)
	if r.Endorsements != nil {
		line("endorsed    %s", r.Endorsements)
	}
	for _, warning := range r.Warnings {
		line("warning: %s", warning)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (e *endorsements) String() string {
	parts := []string{fmt.Sprintf("%d of %d needed", len(e.This), e.Needed)}
	for _, p := range []struct {
		what string
		who  []string
	}{{"by", e.This}, {"another target by", e.Other}, {"nothing from", e.None}} {
		if len(p.who) > 0 {
			parts = append(parts, p.what+" "+strings.Join(p.who, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// difference returns who comes, who leaves and who stays.
func difference(now, next *chain.NextSet) (added, removed, stayed []chain.NamedValidator) {
	for _, v := range next.Validators {
		if slices.Contains(now.Validators, v) {
			stayed = append(stayed, v)
		} else {
			added = append(added, v)
		}
	}
	for _, v := range now.Validators {
		if !slices.Contains(next.Validators, v) {
			removed = append(removed, v)
		}
	}
	return added, removed, stayed
}

// endorsements says which validators have endorsed the next set; nil if no node tells.
func (h *history) endorsements(next *chain.NextSet) *endorsements {
	if h.status == nil || h.status.Generation != h.now.Generation || h.status.Target == nil && len(h.status.Endorsements) == 0 {
		return nil
	}
	hash, said := next.Hash(), map[chain.PublicKey]chain.Hash{}
	for _, e := range h.status.Endorsements {
		said[e.PublicKey] = e.Hash
	}
	e := &endorsements{Needed: int(h.now.Threshold), This: []string{}, Other: []string{}, None: []string{}}
	for _, v := range h.now.Validators {
		switch endorsed, ok := said[v.PublicKey]; {
		case !ok:
			e.None = append(e.None, v.Name)
		case endorsed == hash:
			e.This = append(e.This, v.Name)
		default:
			e.Other = append(e.Other, v.Name)
		}
	}
	return e
}

// warnings are what the writer of a target should look at.
func (h *history) warnings(next *chain.NextSet, file *peersfile.File, added, removed, stayed []chain.NamedValidator) []string {
	out := []string{}
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	n, t, m, u := len(h.now.Validators), int(h.now.Threshold), len(next.Validators), int(next.Threshold)
	before, after := consensus.Tolerance(n, t), consensus.Tolerance(m, u)
	if len(added)+len(removed) == 0 && t == u {
		warn("the validators and the threshold stay as they are: this only takes back what was endorsed and is not in force")
	}
	if after.Crash == 0 {
		warn("no validator may fail: the threshold equals the number of validators (%d of %d)", u, m)
	}
	if after.Byzantine < before.Byzantine {
		warn("fewer Byzantine validators are tolerated on any network than now: %d, not %d", after.Byzantine, before.Byzantine)
	}
	if len(stayed) < t && len(removed) > 0 {
		warn("%d validators must vote for the change and %d of the present ones stay: keep those that leave up until it is final", t, len(stayed))
	}
	if len(stayed) == 0 {
		warn("no present validator stays: the beacon gets no new values for about four epochs")
	}
	if file != nil {
		listed := map[chain.PublicKey]peersfile.Entry{}
		for _, p := range file.Peers {
			listed[p.PublicKey] = p
		}
		for _, v := range added {
			switch entry, ok := listed[v.PublicKey]; {
			case !ok:
				warn("%s is not in the peers file: add its name, public_key and address, or nobody is linked to it", v.Name)
			case entry.Address == "":
				warn("%s has no address in the peers file: add it, or nobody calls it", v.Name)
			}
		}
	}
	if h.status != nil {
		up := map[chain.PublicKey]bool{h.status.PublicKey: true}
		for _, p := range h.status.Peers {
			up[p.PublicKey] = p.Connected
		}
		var down []chain.NamedValidator
		for _, v := range next.Validators {
			if !up[v.PublicKey] {
				down = append(down, v)
			}
		}
		if m-len(down) < u {
			warn("the node that was asked has no link to %s: the change waits until %d of the next %d are up", names(down), u, m)
		}
	}
	return out
}
