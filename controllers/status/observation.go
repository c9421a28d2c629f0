package status

import (
	"time"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
)

// Observation is the input that a status is made from.
type Observation struct {
	// Generation of the resource that was reconciled.
	Generation int64
	// Now is when the network was observed.
	Now time.Time
	// Old is the status that the resource has.
	Old v1alpha1.DiseqNetworkStatus
	// Network is the network as it is to be shown.
	Network membership.Shown
	// Pods and Set are the planner's decisions.
	Pods membership.Decision
	Set  membership.SetPlan
	// Problems are those that the reconcile found, in that order and each once.
	Problems []*Problem
	// Autoscaler is the program that set the number of validators through the scale subresource;
	// empty if that was a person.
	Autoscaler string
	// Restarted is the request for a restart that all pods carry; empty if there is none.
	Restarted string
	// Rewritten are the fields that admission rewrites whenever the operator writes them.
	Rewritten []string
	// Adopted are the objects that the network takes over because the spec asks for it.
	Adopted []string
	// Access is how the nodes admit clients.
	Access Access
	// ChainID and GenesisHash are those of the genesis document; empty before there is one.
	ChainID, GenesisHash string
	// Selector selects the validators' pods.
	Selector string
}

// Problem is a fault that the operator cannot solve by itself. Reason is one of the constants for
// problems.
type Problem struct {
	Reason  string
	Message string
	// About is the object that it is about, as in "Secret demo-v0"; empty if it is about the
	// network.
	About string
}

// Error makes a Problem an error, so that the function that finds it can return it.
func (p *Problem) Error() string { return p.Reason + ": " + p.Message }
