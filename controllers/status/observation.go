package status

import (
	"time"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
)

// Observation is everything that a status is made from.
type Observation struct {
	// Generation of the resource that was reconciled.
	Generation int64
	// Now is when the network was observed.
	Now time.Time
	// Old is the status that the resource has.
	Old v1alpha1.DiseqNetworkStatus
	// Network is the one to show: as it was seen, with the troubles that are still shown.
	Network membership.Shown
	// Pods and Set are what the planner decided.
	Pods, Set membership.Decision
	// Problem is why the reconcile did not go on; nil if it did.
	Problem *Problem
	// ChainID and GenesisHash are those of the genesis document; empty before there is one.
	ChainID, GenesisHash string
	// Selector selects the validators' pods.
	Selector string
}

// Problem is why a reconcile did not go on. Reason is one of the constants that say so.
type Problem struct {
	Reason  string
	Message string
}

// Error makes a Problem an error, so that it can be returned from where it is found.
func (p *Problem) Error() string { return p.Reason + ": " + p.Message }
