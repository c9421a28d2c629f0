package controllers

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// The operator looks at a network every few seconds, and reports each thing once: its beginning and
// its end, as an event and as a line of the log. Here it remembers its reports. The memory is lost
// with the operator. The next one takes the contents of the status for reported.

// reports are the memories of all networks.
type reports struct {
	mu sync.Mutex
	by map[types.NamespacedName]*reported
}

// reported is the memory of one network, which is reconciled once at a time.
type reported struct {
	// conditions are those that were reported last, by type; nil before the first look at the
	// status.
	conditions map[string]reportedCondition
	// troubles are those that last, by what they are about.
	troubles map[aboutTrouble]time.Time
	// remarks are lines of the log alone, by what they are about.
	remarks map[string]remark
	failure *failure
}

// reportedCondition is a condition, and the type of the event that reported it.
type reportedCondition struct {
	metav1.Condition
	kind string
}

// aboutTrouble distinguishes one trouble from another.
type aboutTrouble struct{ reason, about string }

type remark struct {
	text string
	at   time.Time
}

// failure is the memory of reconciles that fail one after another.
type failure struct {
	since     time.Time
	texts     map[string]bool
	announced bool
}

// of is the memory of a network.
func (t *reports) of(network types.NamespacedName) *reported {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[types.NamespacedName]*reported{}
	}
	if t.by[network] == nil {
		t.by[network] = &reported{troubles: map[aboutTrouble]time.Time{}, remarks: map[string]remark{}}
	}
	return t.by[network]
}

// drop removes the memory of a deleted network, and says whether there was one.
func (t *reports) drop(network types.NamespacedName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.by[network]
	delete(t.by, network)
	return known
}

// logger is the log of the pass.
func (p *pass) logger() *slog.Logger {
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	return p.log
}

// event records an event of the network, about one of its pods if related is not nil, and logs it.
func (p *pass) event(related *corev1.Pod, kind, reason, action, format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if related == nil { // not a nil pointer in an interface
		p.emit(nil, kind, reason, action, note)
		return
	}
	p.emit(related, kind, reason, action, note, "pod", related.Name)
}

// eventAbout is event about an object, named as in "Secret demo-v0". Events of a network that have
// the same reason and another object must name it: the recorder takes events that differ in their
// words alone for one that is repeated, and drops the later words.
func (p *pass) eventAbout(object, kind, reason, action, note string) {
	if of, name, ok := strings.Cut(object, " "); ok && !strings.Contains(name, " ") {
		p.emit(&corev1.ObjectReference{Kind: of, Namespace: p.network.Namespace, Name: name}, kind, reason, action, note)
		return
	}
	p.emit(nil, kind, reason, action, note)
}

// emit sends an event to the API server, and logs it.
func (p *pass) emit(related runtime.Object, kind, reason, action, note string, about ...any) {
	const most = 1000 // the API server takes 1024 bytes
	level := slog.LevelInfo
	if kind == corev1.EventTypeWarning {
		level = slog.LevelWarn
	}
	p.logger().Log(context.Background(), level, note, append([]any{"reason", reason}, about...)...)
	p.r.events.Eventf(p.network, related, kind, reason, action, "%s", strings.ToValidUTF8(note[:min(len(note), most)], ""))
}

// remarkAgain is how long the same remark is not logged again.
const remarkAgain = 10 * time.Minute

// remark logs what is worth no event, once while it lasts. about distinguishes one remark from
// another.
func (p *pass) remark(about, text string, args ...any) {
	memory := p.r.reports.of(p.key())
	said := text + fmt.Sprint(args...)
	last, ok := memory.remarks[about]
	memory.remarks[about] = remark{said, p.now}
	if !ok || withoutNumbers(last.text) != withoutNumbers(said) || p.now.Sub(last.at) >= remarkAgain {
		p.logger().Info(text, args...)
	}
}

// number matches a number that stands alone, as in package status.
var number = regexp.MustCompile(`\b[0-9]+\b`)

func withoutNumbers(text string) string { return number.ReplaceAllString(text, "#") }

// reportNews reports the changes of a status: an event for people, and a line of the log for each
// event.
func (p *pass) reportNews(old, now v1alpha1.DiseqNetworkStatus, troubles []status.Trouble) {
	memory := p.r.reports.of(p.key())
	if memory.conditions == nil {
		memory.recall(old, troubles, p.downtimeAllowed(), p.now)
	}
	p.reportChain(old, now)
	p.reportTroubles(memory, now, troubles)
	p.reportConditions(memory, now)
}

// recall takes the contents of the status for reported.
func (m *reported) recall(old v1alpha1.DiseqNetworkStatus, troubles []status.Trouble, downtimeAllowed bool, now time.Time) {
	m.conditions = map[string]reportedCondition{}
	for _, c := range old.Conditions {
		m.conditions[c.Type] = reportedCondition{c, status.EventType(c, old, downtimeAllowed)}
	}
	was, ok := m.conditions[v1alpha1.ConditionDegraded]
	if !ok || was.Status != metav1.ConditionTrue {
		return
	}
	for _, t := range troubles {
		if t.Reason == was.Reason || strings.Contains(withoutNumbers(was.Message), withoutNumbers(t.Message)) {
			m.troubles[aboutTrouble{t.Reason, t.About}] = now
		}
	}
	if !m.lasts(was.Reason) {
		m.troubles[aboutTrouble{reason: was.Reason}] = now // it is over, which is not reported yet
	}
}

// lasts says whether a trouble with a reason was reported and is not over.
func (m *reported) lasts(reason string) bool {
	for about := range m.troubles {
		if about.reason == reason {
			return true
		}
	}
	return false
}

// reportChain reports the birth of a network, of its chain, and of the changes of its set.
func (p *pass) reportChain(old, now v1alpha1.DiseqNetworkStatus) {
	if len(old.Conditions) == 0 {
		p.logger().Info("a network is made", "validators", p.network.Spec.Validators,
			"threshold", p.network.Spec.Threshold.ThresholdOf(p.network.Spec.Validators))
	}
	taken := slices.DeleteFunc(slices.Clone(now.Adopted), func(object string) bool { return slices.Contains(old.Adopted, object) })
	if len(taken) > 0 {
		p.event(nil, corev1.EventTypeNormal, status.ObjectsAdopted, "Adopt",
			"the network goes on with what existed before it, because spec.existingObjects is Adopt: %s", shortWords(strings.Join(taken, ", ")))
	}
	switch {
	case now.GenesisHash == "":
	case old.GenesisHash == "" && now.ChainID != resources.ChainID(p.network):
		p.event(nil, corev1.EventTypeNormal, status.ChainAdopted, "Adopt",
			"the network goes on with chain %s of an earlier network: genesis hash %s, set generation %d",
			now.ChainID, now.GenesisHash, now.SetGeneration)
	case old.GenesisHash != "" && now.SetGeneration > old.SetGeneration:
		p.event(nil, corev1.EventTypeNormal, status.SetChanged, "ChangeSet",
			"the validator set has changed: %d validators, threshold %d, generation %d%s",
			now.Validators, now.Threshold, now.SetGeneration, p.sets.changesSince(old.SetGeneration))
	}
}

// reportTroubles reports which troubles have begun, and which are over. Each problem of the
// operator makes an event. A trouble of several validators makes one event, and a line of the log
// for each validator that comes to have it later.
func (p *pass) reportTroubles(memory *reported, now v1alpha1.DiseqNetworkStatus, troubles []status.Trouble) {
	before := memory.troubles
	memory.troubles = map[aboutTrouble]time.Time{}
	var reasons []string
	fresh := map[string][]status.Trouble{}
	for _, t := range troubles {
		about := aboutTrouble{t.Reason, t.About}
		since, known := before[about]
		if !known {
			since = p.now
			fresh[t.Reason] = append(fresh[t.Reason], t)
		}
		memory.troubles[about] = since
		if !slices.Contains(reasons, t.Reason) {
			reasons = append(reasons, t.Reason)
		}
	}
	lasted := reported{troubles: before}
	for _, reason := range reasons {
		begun := fresh[reason]
		own := slices.ContainsFunc(p.problems, func(problem *status.Problem) bool { return problem.Reason == reason })
		if len(begun) > 0 && !own && !lasted.lasts(reason) {
			p.eventAbout("Pod "+resources.PodName(begun[0].About), status.EventTypeOf(reason), reason, v1alpha1.ConditionDegraded, messages(begun))
			continue
		}
		for _, t := range begun {
			if own {
				p.eventAbout(t.About, status.EventTypeOf(reason), reason, v1alpha1.ConditionDegraded, t.Message)
			} else {
				p.logger().Warn(t.Message, "reason", reason)
			}
		}
	}
	p.reportEnds(memory, before, meta.IsStatusConditionTrue(now.Conditions, v1alpha1.ConditionDegraded))
}

// reportEnds reports which troubles are over. If none is left, the event is that of Degraded.
func (p *pass) reportEnds(memory *reported, before map[aboutTrouble]time.Time, degraded bool) {
	over := slices.SortedFunc(maps.Keys(before), func(a, b aboutTrouble) int {
		return cmp.Or(strings.Compare(a.reason, b.reason), strings.Compare(a.about, b.about))
	})
	ended := map[string]bool{}
	for _, about := range over {
		if _, lasts := memory.troubles[about]; lasts {
			continue
		}
		after := p.now.Sub(before[about]).Round(time.Second)
		if degraded && !memory.lasts(about.reason) {
			if !ended[about.reason] {
				p.event(nil, corev1.EventTypeNormal, status.Resolved, about.reason, "%s is over", about.reason)
			}
			ended[about.reason] = true
			continue
		}
		p.logger().Info("a problem is over", "reason", about.reason, "about", about.about, "after", after.String())
	}
}

// messages are the first few messages of troubles.
func messages(troubles []status.Trouble) string {
	const most = 5
	var texts []string
	for _, t := range troubles[:min(len(troubles), most)] {
		texts = append(texts, t.Message)
	}
	if more := len(troubles) - most; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, "; ")
}

// reportedConditions are the conditions whose changes are reported. Others say the same in other
// words.
var reportedConditions = []string{
	v1alpha1.ConditionAvailable, v1alpha1.ConditionProgressing, v1alpha1.ConditionDegraded, v1alpha1.ConditionQuorumHealthy,
	v1alpha1.ConditionMembershipChanging, v1alpha1.ConditionEvidenceFound, v1alpha1.ConditionAccessReady,
}

// reportConditions makes an event of each condition whose status or reason changed. If several
// conditions have one reason, or a trouble has it, there is one event. A change that passes by
// itself is reported if it lasts.
func (p *pass) reportConditions(memory *reported, now v1alpha1.DiseqNetworkStatus) {
	announced := map[string]bool{}
	for _, c := range now.Conditions {
		if !slices.Contains(reportedConditions, c.Type) {
			continue
		}
		last, known := memory.conditions[c.Type]
		kind := status.EventType(c, now, p.downtimeAllowed())
		isWarning := kind == corev1.EventTypeWarning
		changed := last.Status != c.Status || last.Reason != c.Reason || isWarning && last.kind != kind
		// Another wish for a set that does not come makes another event.
		asked := c.Type == v1alpha1.ConditionMembershipChanging && isWarning &&
			last.ObservedGeneration != c.ObservedGeneration && last.Message != c.Message
		if known && !changed && !asked || known && status.Passes(last.Condition, c, now) {
			continue
		}
		memory.conditions[c.Type] = reportedCondition{c, kind}
		switch {
		case !known, last.Reason == status.NoChainYet: // every network begins like this
		case c.Type == v1alpha1.ConditionDegraded && c.Status == metav1.ConditionTrue, memory.lasts(c.Reason): // the trouble was reported
		case announced[c.Reason]:
		default:
			announced[c.Reason] = true
			p.event(nil, kind, c.Reason, c.Type, "%s is %s: %s", c.Type, c.Status, c.Message)
		}
	}
}

// downtimeAllowed says that restarts may stop the chain.
func (p *pass) downtimeAllowed() bool {
	return p.network.Annotations[membership.AllowDowntime] == "true"
}

// failedFor is how long reconciles fail until that is an event.
const failedFor = time.Minute

// outcome reports reconciles that fail: each error once while it lasts.
func (r *Reconciler) outcome(ctx context.Context, key types.NamespacedName, network *v1alpha1.DiseqNetwork, err error) {
	memory, now := r.reports.of(key), r.clock()
	p := &pass{r: r, network: network, now: now, log: logOf(ctx)}
	f := memory.failure
	switch {
	case err == nil && f == nil, ctx.Err() != nil: // it stops
	case err == nil && f.announced && network != nil:
		p.event(nil, corev1.EventTypeNormal, status.Resolved, status.ReconcileFailed, "%s is over", status.ReconcileFailed)
		memory.failure = nil
	case err == nil:
		p.logger().Info("the operator can look at the network again")
		memory.failure = nil
	default:
		if f == nil {
			f = &failure{since: now, texts: map[string]bool{}}
			memory.failure = f
		}
		if text := withoutNumbers(err.Error()); !f.texts[text] {
			f.texts[text] = true
			p.logger().Error("the operator cannot look at the network, and tries again", "err", err.Error())
		}
		if network != nil && !f.announced && now.Sub(f.since) >= failedFor {
			f.announced = true
			p.event(nil, corev1.EventTypeWarning, status.ReconcileFailed, "Reconcile",
				"the operator has not been able to look at the network for %v, and tries again: %v", now.Sub(f.since).Round(time.Second), err)
		}
	}
}
