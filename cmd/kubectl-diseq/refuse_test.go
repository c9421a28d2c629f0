package main

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// refuse is an API server that lets the user list nothing of some kinds.
func refuse(plural ...string) interceptor.Funcs {
	kinds := map[string]string{"PodList": "pods", "SecretList": "secrets", "NodeList": "nodes", "EventList": "events"}
	return interceptor.Funcs{List: func(ctx context.Context, c ctrl.WithWatch, list ctrl.ObjectList, options ...ctrl.ListOption) error {
		kind, err := apiutil.GVKForObject(list, c.Scheme())
		if err != nil {
			return err
		}
		if name := kinds[kind.Kind]; slices.Contains(plural, name) {
			return apierrors.NewForbidden(schema.GroupResource{Resource: name}, "", nil)
		}
		return c.List(ctx, list, options...)
	}}
}
