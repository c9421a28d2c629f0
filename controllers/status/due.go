package status

import (
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"regexp"

	"github.com/diseq/diseq/api/v1alpha1"
)

// Interval is how often a status is written whose numbers alone change: heights grow with every
// block.
const Interval = time.Minute

// WriteDue says whether a status has to be written now, and otherwise, if there is something to
// write, in what time; 0 if there is nothing. lastWrite is when it was last written, see
// [LastWrite].
//
// A change is written at once, unless it is one of heights, of the time of the last block, or of
// numbers within messages ("14 blocks behind"): those change with the traffic, and every write
// comes back as an event and another reconcile. The first block is a change: who has just made a
// network and sent it something looks for that.
func WriteDue(old, wanted v1alpha1.DiseqNetworkStatus, lastWrite, now time.Time) (bool, time.Duration) {
	if equality.Semantic.DeepEqual(old, wanted) {
		return false, 0
	}
	if !equality.Semantic.DeepEqual(still(old), still(wanted)) {
		return true, 0
	}
	if wait := lastWrite.Add(Interval).Sub(now); wait > 0 && wait <= Interval {
		return false, wait
	}
	return true, 0
}

// number is one that stands alone: the digits of demo-v2 are a name.
var number = regexp.MustCompile(`\b[0-9]+\b`)

// still is a status without what moves under traffic.
func still(s v1alpha1.DiseqNetworkStatus) v1alpha1.DiseqNetworkStatus {
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

// LastWrite is when the status of the object was last written by the field owner: the API server
// keeps that itself. Zero if it never was, or if the managed fields were taken off the object, as
// some caches do.
func LastWrite(object metav1.Object, owner string) time.Time {
	var last time.Time
	for _, f := range object.GetManagedFields() {
		if f.Manager == owner && f.Subresource == "status" && f.Time != nil && f.Time.After(last) {
			last = f.Time.Time
		}
	}
	return last
}
