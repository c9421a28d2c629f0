package status

import (
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/diseq/diseq/api/v1alpha1"
)

const (
	// HeightInterval is the time between two writes of a status if only the height changes. With
	// the time that a look at slow nodes takes, the height is at most 10 s old while it moves.
	HeightInterval = 7 * time.Second
	// Interval is the time between two writes if not even that changes. They renew
	// status.lastObserved, which tells a network that stands still from an operator that is away.
	Interval = time.Minute
)

// WriteDue says whether a status must be written now. If not, it returns how long to wait until the
// write.
//
// A change is written at once, unless only heights change, the time of the last block, or numbers
// within messages ("14 blocks behind"). Those change with the traffic. The first block is written
// at once, because the person who has just made a network waits for it. The status itself says when
// it was last written; a time in the future is from a clock that was wrong, and does not count.
func WriteDue(old, wanted v1alpha1.DiseqNetworkStatus, now time.Time) (bool, time.Duration) {
	every := Interval
	switch {
	case !equality.Semantic.DeepEqual(withoutTraffic(old), withoutTraffic(wanted)):
		return true, 0
	case old.Height != wanted.Height, !equality.Semantic.DeepEqual(old.FinalizedTime, wanted.FinalizedTime):
		every = HeightInterval
	}
	if old.LastObserved != nil {
		if wait := old.LastObserved.Add(every).Sub(now); wait > 0 && wait <= every {
			return false, wait
		}
	}
	return true, 0
}

// number matches a number that stands alone: the digits of demo-v2 are part of a name.
var number = regexp.MustCompile(`\b[0-9]+\b`)

// withoutTraffic is a status without the parts that change with the traffic or the time.
func withoutTraffic(s v1alpha1.DiseqNetworkStatus) v1alpha1.DiseqNetworkStatus {
	s = *s.DeepCopy()
	s.Height, s.FinalizedTime, s.LastObserved = min(s.Height, 1), nil, nil
	for i := range s.Members {
		s.Members[i].Height = 0
		s.Members[i].Reason = number.ReplaceAllString(s.Members[i].Reason, "#")
	}
	for i := range s.Conditions {
		s.Conditions[i].Message = number.ReplaceAllString(s.Conditions[i].Message, "#")
	}
	return s
}
