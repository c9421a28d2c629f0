package status

import (
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// Interval is the time between two writes of a status if only numbers change: heights grow with
// every block.
const Interval = time.Minute

// WriteDue says whether a status must be written now. If not, it returns how long to wait until the
// write; 0 if there is nothing to write. lastWrite is when the status was last written, see
// [LastWrite].
//
// A change is written at once, unless only heights change, the time of the last block, or numbers
// within messages ("14 blocks behind"). Those change with the traffic, and every write starts
// another reconcile. The first block is written at once, because the person who has just made a
// network waits for it.
func WriteDue(old, wanted v1alpha1.DiseqNetworkStatus, lastWrite, now time.Time) (bool, time.Duration) {
	if equality.Semantic.DeepEqual(old, wanted) {
		return false, 0
	}
	if !equality.Semantic.DeepEqual(withoutTraffic(old), withoutTraffic(wanted)) {
		return true, 0
	}
	if wait := lastWrite.Add(Interval).Sub(now); wait > 0 && wait <= Interval {
		return false, wait
	}
	return true, 0
}

// number matches a number that stands alone: the digits of demo-v2 are part of a name.
var number = regexp.MustCompile(`\b[0-9]+\b`)

// withoutTraffic is a status without the parts that change with the traffic.
func withoutTraffic(s v1alpha1.DiseqNetworkStatus) v1alpha1.DiseqNetworkStatus {
	s = *s.DeepCopy()
	s.Height, s.FinalizedTime = min(s.Height, 1), nil
	for i := range s.Members {
		s.Members[i].Height = 0
		s.Members[i].Reason = number.ReplaceAllString(s.Members[i].Reason, "#")
	}
	for i := range s.Conditions {
		s.Conditions[i].Message = number.ReplaceAllString(s.Conditions[i].Message, "#")
	}
	return s
}

// LastWrite is when the field owner last wrote the status of the object, by the API server's own
// record. It is zero if there was no write, or if the object has no managed fields: some caches
// remove them.
func LastWrite(object metav1.Object, owner string) time.Time {
	var last time.Time
	for _, f := range object.GetManagedFields() {
		if f.Manager == owner && f.Subresource == "status" && f.Time != nil && f.Time.After(last) {
			last = f.Time.Time
		}
	}
	return last
}
