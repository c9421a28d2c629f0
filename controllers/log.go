package controllers

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// logOf is the log of a reconcile, with the fields of [logFor].
func logOf(ctx context.Context) *slog.Logger {
	return slog.New(logr.ToSlogHandler(log.FromContext(ctx)))
}

// logFor is the log of the controller, and of the reconciles of one network if request is not nil.
// Each line about a network has its namespace and its name in the fields namespace and network.
func logFor(base logr.Logger, request *reconcile.Request) logr.Logger {
	if request == nil {
		return base.WithValues("controller", "diseqnetwork")
	}
	// The values first: they replace the logger of package log by the one that does the work.
	l := base.WithValues("namespace", request.Namespace, "network", request.Name)
	return logr.FromSlogHandler(reconcileLog{logr.ToSlogHandler(l)})
}

// reconcileLog leaves out what controller-runtime adds to the log of a reconcile: its line for each
// error, because [Reconciler.outcome] reports an error that lasts once, and the number of the
// reconcile.
type reconcileLog struct{ slog.Handler }

// Handle leaves out the line for each error.
func (l reconcileLog) Handle(ctx context.Context, record slog.Record) error {
	if record.Message == "Reconciler error" {
		return nil
	}
	return l.Handler.Handle(ctx, record)
}

// WithAttrs leaves out the number of the reconcile.
func (l reconcileLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	var kept []slog.Attr
	for _, a := range attrs {
		if a.Key != "reconcileID" {
			kept = append(kept, a)
		}
	}
	return reconcileLog{l.Handler.WithAttrs(kept)}
}

// WithGroup opens a group.
func (l reconcileLog) WithGroup(name string) slog.Handler {
	return reconcileLog{l.Handler.WithGroup(name)}
}
