package status

import (
	"cmp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/controllers/membership"
)

// Trouble is one thing that is wrong with a network. Degraded has the reason of the most serious
// one, and its message has those of all.
type Trouble struct {
	Reason string
	// About is the validator or the object that has the trouble; empty if it is the network's. With
	// the reason it distinguishes one trouble from another, as long as the trouble lasts: the
	// message may have numbers in it.
	About   string
	Message string
}

// Troubles are all that is wrong with a network: the problems of the operator in the order in which
// it found them, then those of validators, the most serious first.
func Troubles(o Observation) []Trouble {
	var found []Trouble
	for _, p := range o.Problems {
		found = append(found, Trouble{Reason: p.Reason, About: cmp.Or(p.About, p.Message), Message: p.Message})
	}
	v := o.view()
	v.found = func(reason string, s membership.Standing, text string) {
		found = append(found, Trouble{Reason: reason, About: s.Name, Message: text})
	}
	if degraded(v).status != metav1.ConditionTrue {
		return nil
	}
	return found
}
