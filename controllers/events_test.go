package controllers

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/status"
)

// sink is where the recorder sends events.
type sink chan *eventsv1.Event

func (s sink) Create(_ context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	s <- e
	return e, nil
}

func (s sink) Update(_ context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	s <- e
	return e, nil
}

func (s sink) Patch(_ context.Context, e *eventsv1.Event, _ []byte) (*eventsv1.Event, error) {
	s <- e
	return e, nil
}

// The recorder of client-go takes two events that differ in their words alone for one.
func TestEventsAboutTwoObjectsAreTwoEvents(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	made := make(sink, 16)
	broadcaster := events.NewBroadcaster(made)
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	p := &pass{
		r:       &Reconciler{events: broadcaster.NewRecorder(Scheme(), "diseq-operator")},
		network: &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "u"}},
		log:     slog.New(slog.DiscardHandler),
	}
	want := []string{"Service demo is back", "StatefulSet demo-v0 is back", "the network is back"}
	p.eventAbout("Service demo", "Normal", status.Reverted, "Revert", want[0])
	p.eventAbout("StatefulSet demo-v0", "Normal", status.Reverted, "Revert", want[1])
	p.eventAbout("", "Normal", status.Reverted, "Revert", want[2])
	var got []string
	for range want {
		select {
		case e := <-made:
			got = append(got, e.Note)
		case <-time.After(time.Minute):
			t.Fatalf("only %q was sent", got)
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
