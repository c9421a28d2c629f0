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

// report says what the next set changes and tolerates, what it takes, and what is to be looked at.
// file is the peers file that declares it; nil if there is none.
func (h *history) report(w io.Writer, next *chain.NextSet, file *peersfile.File) {
	added, removed, stayed := difference(h.now, next)
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	line("chain %s, generation %d -> %d, hash %v", h.eras.ChainID(), h.now.Generation, next.Generation, next.Hash())
	for _, part := range []struct {
		what string
		who  []chain.NamedValidator
	}{{"come ", added}, {"leave", removed}, {"stay ", stayed}} {
		if len(part.who) > 0 {
			line("%s       %s", part.what, names(part.who))
		}
	}
	n, t, m, u := len(h.now.Validators), int(h.now.Threshold), len(next.Validators), int(next.Threshold)
	before, after := consensus.Tolerance(n, t), consensus.Tolerance(m, u)
	line("validators  %d -> %d, threshold %d -> %d", n, m, t, u)
	line("tolerates   %d -> %d down, %d -> %d Byzantine on any network, %d -> %d with the synchrony wait or full certificates",
		before.Crash, after.Crash, before.Byzantine, after.Byzantine, before.ByzantineWithSynchrony, after.ByzantineWithSynchrony)
	line("takes       the same target from %d of the present %d validators, and %d of the next %d up and caught up", t, n, u, m)
	h.progress(line, next)
	for _, warning := range h.warnings(next, file, added, removed, stayed) {
		line("warning: %s", warning)
	}
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

// progress says who has endorsed the next set, as far as the node knows.
func (h *history) progress(line func(string, ...any), next *chain.NextSet) {
	if h.status == nil || h.status.Generation != h.now.Generation || h.status.Target == nil && len(h.status.Endorsements) == 0 {
		return
	}
	hash, said := next.Hash(), map[chain.PublicKey]chain.Hash{}
	for _, e := range h.status.Endorsements {
		said[e.PublicKey] = e.Hash
	}
	var this, other, none []chain.NamedValidator
	for _, v := range h.now.Validators {
		switch endorsed, ok := said[v.PublicKey]; {
		case !ok:
			none = append(none, v)
		case endorsed == hash:
			this = append(this, v)
		default:
			other = append(other, v)
		}
	}
	parts := []string{fmt.Sprintf("%d of %d needed", len(this), h.now.Threshold)}
	for _, p := range []struct {
		what string
		who  []chain.NamedValidator
	}{{"by", this}, {"another target by", other}, {"nothing from", none}} {
		if len(p.who) > 0 {
			parts = append(parts, p.what+" "+names(p.who))
		}
	}
	line("endorsed    %s", strings.Join(parts, "; "))
}

// warnings are what the writer of a target should look at.
func (h *history) warnings(next *chain.NextSet, file *peersfile.File, added, removed, stayed []chain.NamedValidator) (out []string) {
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
