package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// fieldOwner owns every field that the operator writes.
const fieldOwner = client.FieldOwner(resources.FieldOwner)

// neverVersion is a resource version that no object has: etcd's first revision is older than the
// first object. An apply that carries it creates the object or fails with a conflict. Without it an
// apply could take over an object of the same name that somebody else made a moment ago. It could
// also undo a change of another operator that was elected while this one hung.
const neverVersion = "1"

// errLater ends a reconcile whose observation is out of date. The next reconcile observes again.
var errLater = errors.New("the observation is out of date")

// guard is the condition on which an object that exists is applied.
type guard bool

const (
	// ofAnyVersion applies in any case: the apply writes the operator's own fields alone, and their
	// values follow from the spec.
	ofAnyVersion guard = false
	// asObserved applies only if the object is still the version that was observed.
	asObserved guard = true
)

// apply writes the wanted object if the live one differs. It returns the object if it wrote, and
// nil if that was not necessary. live is the object in the cache; nil if it is not there.
func (p *pass) apply(ctx context.Context, wanted any, live client.Object, g guard) (client.Object, error) {
	object, err := untyped(wanted)
	if err != nil {
		return nil, err
	}
	kind, name := object.GetKind(), object.GetName()
	if live == nil {
		// The cache may lag, and it never has an object without our label. So ask the API server.
		if live, err = p.getLive(ctx, object); err != nil {
			return nil, err
		}
	}
	switch {
	case live == nil:
		object.SetResourceVersion(neverVersion)
		p.count()
		if err := p.r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership); err != nil {
			return nil, refused(err, "apply", kind, name)
		}
		return object, nil
	case p.foreign(live) != "":
		return nil, p.conflict(kind, live, p.foreign(live))
	case live.GetDeletionTimestamp() != nil:
		return nil, nil // once it is gone, a later reconcile makes a new one
	}
	drift := resources.Compare(live, wanted)
	if drift.Current() {
		p.noteRewritten(kind, drift)
		if c := p.r.contests.of(p.key(), kind+" "+name, p.now); c.repairs > atOnceRepairs {
			p.note(p.contested(kind, name, c.fields))
		}
		return nil, nil
	}
	return p.write(ctx, object, wanted, live, drift, bool(g))
}

// untyped converts an apply configuration of any type, so that a resource version can be added.
func untyped(wanted any) (*unstructured.Unstructured, error) {
	raw, err := json.Marshal(wanted)
	if err != nil {
		return nil, fmt.Errorf("apply %T: %w", wanted, err)
	}
	object := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(raw, &object.Object); err != nil {
		return nil, fmt.Errorf("apply %T: %w", wanted, err)
	}
	return object, nil
}

// getLive gets an object from the API server; nil if there is none.
func (p *pass) getLive(ctx context.Context, object *unstructured.Unstructured) (client.Object, error) {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(object.GroupVersionKind())
	err := p.r.live.Get(ctx, client.ObjectKeyFromObject(object), live)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return live, nil
}

func problemf(reason, format string, args ...any) *status.Problem {
	return &status.Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// errEnding ends a reconcile whose namespace is being deleted: nothing can be made in it any more.
var errEnding = errors.New("the namespace is being deleted")

// refused classifies the error of a write. A conflict means that the observation is out of date. A
// write that the API server will refuse again is a problem to report. Any other error is retried.
func refused(err error, verb, kind, name string) error {
	switch {
	case err == nil:
		return nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return fmt.Errorf("%s %s %s: %w", verb, kind, name, errEnding)
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%s %s %s: %w: %w", verb, kind, name, errLater, err)
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), meta.IsNoMatchError(err), webhookFailed(err):
		return &status.Problem{
			Reason: status.WriteRefused, Message: oneLine(fmt.Sprintf("%s %s %s: %v", verb, kind, name, err)), About: kind + " " + name,
		}
	}
	return fmt.Errorf("%s %s %s: %w", verb, kind, name, err)
}

// webhookFailed says that an admission webhook could not be asked. That lasts until somebody starts
// it or removes its configuration.
func webhookFailed(err error) bool {
	return apierrors.IsInternalError(err) && strings.Contains(err.Error(), "failed calling webhook")
}

// oneLine is a text of somebody else in one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// laterIfConflict marks a conflict as an observation that is out of date.
func laterIfConflict(err error) error {
	if apierrors.IsConflict(err) {
		return fmt.Errorf("%w: %w", errLater, err)
	}
	return err
}
