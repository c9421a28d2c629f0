package status

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
)

// A machine takes all its validators with it, and so does a zone. The operator takes both from the
// pods, so that it needs no right to read the nodes of the cluster: spec.nodeName, and the label
// that Kubernetes copies from the machine to the pod since 1.35.

// domains are the validators that count for the quorum, by the machine or the zone that carries
// them.
type domains map[string][]string

// domainsBy groups the validators that count. It returns nil unless the domain of each is known:
// with a part of them, a loss would look smaller than it is.
func (v view) domainsBy(of func(*membership.Pod) string) domains {
	d := domains{}
	for _, s := range v.standings {
		if !s.CaughtUp {
			continue
		}
		name := of(s.Pod)
		if name == "" {
			return nil
		}
		d[name] = append(d[name], s.Name)
	}
	return d
}

func machine(p *membership.Pod) string { return p.Machine }

func zone(p *membership.Pod) string { return p.Zone }

// mayFail is how many of them may fail, whichever they are, if so many validators may.
func (d domains) mayFail(spare int) int {
	sizes := make([]int, 0, len(d))
	for _, names := range d {
		sizes = append(sizes, len(names))
	}
	slices.Sort(sizes)
	n := 0
	for _, size := range slices.Backward(sizes) {
		if spare -= size; spare < 0 {
			break
		}
		n++
	}
	return n
}

// critical are those whose loss alone stops the chain.
func (d domains) critical(spare int) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(d)) {
		if len(d[name]) > spare {
			names = append(names, name)
		}
	}
	return names
}

// says is how many of them may fail, as a part of a sentence that says how many validators may.
func (d domains) says(kind string, spare int) string {
	critical := d.critical(spare)
	switch {
	case len(d) == 0:
		return ""
	case len(critical) == 0:
		return fmt.Sprintf(", and any %d of %d %ss", d.mayFail(spare), len(d), kind)
	}
	texts := make([]string, len(critical))
	for i, name := range critical {
		texts[i] = fmt.Sprintf("%s (%s)", name, strings.Join(d[name], ", "))
	}
	return fmt.Sprintf(", but the loss of the %s %s would stop the chain", kind, firstFew(texts))
}

// status is what the resource says of them; nil if they are not known.
func (d domains) status(spare int) *v1alpha1.FailureDomain {
	if len(d) == 0 {
		return nil
	}
	return &v1alpha1.FailureDomain{InUse: int32(len(d)), MayFail: int32(d.mayFail(spare)), Critical: d.critical(spare)}
}

// spareDomains is the reason of a network that can do without one more validator, and what may
// happen to machines and zones.
func (v view) spareDomains() (reason, text string) {
	machines, zones, spare := v.domainsBy(machine), v.domainsBy(zone), v.caughtUp-v.t
	reason = SpareValidators
	if len(machines.critical(spare)) > 0 || len(zones.critical(spare)) > 0 {
		reason = SharedMachine
	}
	return reason, machines.says("machine", spare) + zones.says("zone", spare)
}

// failureDomains are machines and zones for the status; nil before anybody counts.
func (v view) failureDomains() *v1alpha1.FailureDomains {
	spare := max(0, v.caughtUp-v.t)
	f := v1alpha1.FailureDomains{Machines: v.domainsBy(machine).status(spare), Zones: v.domainsBy(zone).status(spare)}
	if f.Machines == nil && f.Zones == nil {
		return nil
	}
	return &f
}
