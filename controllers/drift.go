package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// How the operator puts back what others change. The first changes of an object are put back at
// once. If something changes the object again and again, the operator says so and puts it back once
// in a while: two programs that each undo what the other did would otherwise write without end.
const (
	// atOnceRepairs is how many times an object is put back at once.
	atOnceRepairs = 2
	// contestedWait is the time between two repairs of an object after that.
	contestedWait = time.Minute
	// contestedFor is how long an object must have been left alone to be put back at once again. It
	// is longer than contestedWait, so that a condition about it does not come and go.
	contestedFor = 3 * time.Minute
)

// contests remember the repairs of the objects of each network. They are lost with the operator:
// the next one puts an object back twice at once again.
type contests struct {
	mu sync.Mutex
	by map[types.NamespacedName]map[string]contest
}

// contest is the repairs of one object that came shortly after each other.
type contest struct {
	repairs int
	last    time.Time
	// fields that were put back the last time.
	fields string
}

// of returns the contest about an object; a zero one if it was left alone for long enough.
func (c *contests) of(network types.NamespacedName, object string, now time.Time) contest {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.by[network][object]
	if now.Sub(found.last) >= contestedFor {
		delete(c.by[network], object)
		return contest{}
	}
	return found
}

// repaired takes note of a repair.
func (c *contests) repaired(network types.NamespacedName, object, fields string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[types.NamespacedName]map[string]contest{}
	}
	if c.by[network] == nil {
		c.by[network] = map[string]contest{}
	}
	c.by[network][object] = contest{repairs: c.by[network][object].repairs + 1, last: now, fields: fields}
}

// drop removes what is remembered of a deleted network.
func (c *contests) drop(network types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by, network)
}

// contested says that the objects of a network are changed again and again. It says so until
// they were left alone for a while.
func (p *pass) contested(kind, name, fields string) *status.Problem {
	return problemAbout(kind+" "+name, status.ChangeContested, "%s %s is changed again whenever the operator puts it back: %s. "+
		"The operator puts it back once a minute. Stop whatever changes it, or make the change in the spec of the network", kind, name, fields)
}

// problemAbout is a problem about one object.
func problemAbout(object, reason, format string, args ...any) *status.Problem {
	problem := problemf(reason, format, args...)
	problem.About = object
	return problem
}

// write writes the wanted object over the live one, and returns the answer. drift is how they
// differ; guarded says that the live one must still be the version that was observed.
//
// An apply suffices unless others added something: an apply leaves what another manager owns, and
// may be refused because of it. A merge patch then takes the additions out and puts the wanted
// values in.
func (p *pass) write(
	ctx context.Context, object *unstructured.Unstructured, wanted any, live client.Object, drift resources.Drift, guarded bool,
) (client.Object, error) {
	kind, name := object.GetKind(), object.GetName()
	at, key := kind+" "+name, p.key()
	if err := changeable(object, live); err != nil {
		return nil, err
	}
	change := !drift.Outdated // somebody else's, not one of the spec
	var contested bool
	if change {
		c := p.r.contests.of(key, at, p.now)
		if contested = c.repairs >= atOnceRepairs; contested && p.now.Sub(c.last) < contestedWait {
			// An error, so that nobody takes the object for what is wanted.
			return nil, p.contested(kind, name, drift.String())
		}
	}
	var answer *unstructured.Unstructured
	var err error
	if len(drift.Added) > 0 {
		answer, err = p.repair(ctx, object, wanted, live)
	} else {
		answer = object
		// An observation that is out of date must not look like a second change.
		if guarded || change {
			answer.SetResourceVersion(live.GetResourceVersion())
		}
		p.count()
		err = p.r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(answer), fieldOwner, client.ForceOwnership)
		if err = refused(err, "apply", kind, name); err == nil {
			// Somebody else may own a field of an earlier configuration, too.
			if rest := resources.Compare(answer, wanted); len(rest.Added) > 0 {
				answer, err = p.repair(ctx, object, wanted, answer)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if change {
		p.r.contests.repaired(key, at, drift.String(), p.now)
		if contested {
			return answer, nil // a condition says so
		}
		p.eventAbout(at, corev1.EventTypeNormal, status.Reverted, "Revert",
			fmt.Sprintf("%s: others changed %s, and the operator put it back", at, drift))
	}
	return answer, nil
}

// changeable refuses to write to a ConfigMap that somebody made immutable: nobody can take that
// back. Only the genesis document is meant to be.
func changeable(wanted *unstructured.Unstructured, live client.Object) error {
	if wanted.GetKind() != "ConfigMap" {
		return nil
	}
	whole, err := untyped(live)
	if err != nil {
		return err
	}
	meant, _, _ := unstructured.NestedBool(wanted.Object, "immutable")
	if immutable, _, _ := unstructured.NestedBool(whole.Object, "immutable"); immutable && !meant {
		return problemAbout("ConfigMap "+live.GetName(), status.WriteRefused, "ConfigMap %s was made immutable, so that the operator cannot "+
			"change it any more, and nobody can undo that. Delete it: the operator makes another one at once, and the nodes that run do not "+
			"notice", live.GetName())
	}
	return nil
}

// repair patches the live object so that it is as wanted.
func (p *pass) repair(
	ctx context.Context, object *unstructured.Unstructured, wanted any, live client.Object,
) (*unstructured.Unstructured, error) {
	kind, name := object.GetKind(), object.GetName()
	// Read it without types: the patch must keep fields that this version of the operator does not
	// know.
	fresh, err := p.getLive(ctx, object)
	if err != nil {
		return nil, err
	}
	whole, ok := fresh.(*unstructured.Unstructured)
	if !ok || whole.GetResourceVersion() != live.GetResourceVersion() {
		return nil, fmt.Errorf("patch %s %s: %w: it has changed", kind, name, errLater)
	}
	patch, err := resources.Repair(whole, wanted)
	if err != nil {
		return nil, err
	}
	p.count()
	err = p.r.client.Patch(ctx, whole, client.RawPatch(types.MergePatchType, patch), fieldOwner)
	return whole, refused(err, "patch", kind, name)
}

// noteRewritten keeps which fields admission rewrites, for the status: by kind, because it does so
// with all objects of a kind.
func (p *pass) noteRewritten(kind string, drift resources.Drift) {
	if kind == resources.MonitorKind.Kind {
		return // looked at now and then: the status must not come and go
	}
	for _, path := range drift.Rewritten {
		if text := kind + " " + path; !slices.Contains(p.rewritten, text) {
			p.rewritten = append(p.rewritten, text)
		}
	}
}
