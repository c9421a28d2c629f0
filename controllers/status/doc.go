// Package status turns what was observed of a network into the status of its resource: conditions,
// counts and members.
//
// It is pure: one function a condition, from an [Observation] to a reason and a message, and the
// time comes in. Conditions are as in KEP-1623: a reason is a CamelCase constant that a program may
// compare, a message is for people and says with numbers what is waited for. What each reason means
// and what to do about it is in docs/operations.md, "Kubernetes: conditions and reasons"; a test
// holds that table complete.
//
// A condition turns at the first look that shows a reason for it. That validators come and go with
// every look is not told here: [membership.Memory] holds what is shown.
//
// It does not write anything. [WriteDue] says when that is worth an API request.
package status
