package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
// apply would take over an object of the same name that somebody else made a moment ago, or bring
// back what another operator, elected while this one hung, has changed since.
const neverVersion = "1"

// errLater ends a reconcile that went by something old; the next one sees more.
var errLater = errors.New("observed too early")

// guard is what an apply of an object that exists depends on.
type guard bool

const (
	// ofAnyVersion applies in any case: only the operator's own fields are written, and always to
	// what the spec says.
	ofAnyVersion guard = false
	// asObserved applies only if the object is still the version that was observed.
	asObserved guard = true
)

// apply makes an object what is wanted, and returns it if it was written, nil if that was not
// necessary. live is what is in the cache; nil if it is not there.
func (p *pass) apply(ctx context.Context, wanted any, live client.Object, g guard) (client.Object, error) {
	object, err := untyped(wanted)
	if err != nil {
		return nil, err
	}
	kind, name := object.GetKind(), object.GetName()
	if live == nil {
		// The cache may lag, and it never holds what lacks our label. What there is decides, not
		// what the cache shows.
		if live, err = p.getLive(ctx, object); err != nil {
			return nil, err
		}
	}
	switch {
	case live == nil:
		object.SetResourceVersion(neverVersion)
	case p.foreign(live) != "":
		return nil, p.conflict(kind, live)
	case live.GetDeletionTimestamp() != nil:
		return nil, nil // it is made anew when it is gone
	case resources.Current(live, wanted):
		return nil, nil
	case g == asObserved:
		object.SetResourceVersion(live.GetResourceVersion())
	}
	p.count()
	if err := p.r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership); err != nil {
		return nil, refused(err, "apply", kind, name)
	}
	return object, nil
}

// untyped is an apply configuration to which a resource version can be added, whatever its type.
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

// foreign says why an object is not the network's own: it lacks the label, or something else
// controls it. It is empty for the network's own, and for what has the label and no controller:
// that is what an earlier network of the name left behind.
func (p *pass) foreign(object metav1.Object) string {
	if object.GetLabels()[resources.NetworkLabel] != p.network.Name {
		return fmt.Sprintf("it has no label %s=%s", resources.NetworkLabel, p.network.Name)
	}
	owner := metav1.GetControllerOf(object)
	switch {
	case owner == nil || owner.UID == p.network.UID:
		return ""
	case owner.Kind == networkKind && owner.Name == p.network.Name:
		return fmt.Sprintf("it belongs to an earlier network of this name (UID %s) and is still being removed", owner.UID)
	}
	return fmt.Sprintf("it is controlled by %s %s", owner.Kind, owner.Name)
}

const networkKind = "DiseqNetwork"

func (p *pass) conflict(kind string, object metav1.Object) error {
	return problemf(status.NameConflict, "%s %s exists and is not this network's: %s. Nothing is done to it; remove it, or give the network "+
		"another name", kind, object.GetName(), p.foreign(object))
}

func problemf(reason, format string, args ...any) *status.Problem {
	return &status.Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// refused tells an API server that will say the same again from one that may not. A conflict says
// that what the write went by is old.
func refused(err error, verb, kind, name string) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%s %s %s: %w: %w", verb, kind, name, errLater, err)
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), meta.IsNoMatchError(err):
		return problemf(status.WriteRefused, "%s %s %s: %v", verb, kind, name, err)
	}
	return fmt.Errorf("%s %s %s: %w", verb, kind, name, err)
}

// laterIfConflict marks a conflict as a write that went by something old.
func laterIfConflict(err error) error {
	if apierrors.IsConflict(err) {
		return fmt.Errorf("%w: %w", errLater, err)
	}
	return err
}
