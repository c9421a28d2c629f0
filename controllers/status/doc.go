// Package status turns the observation of a network into the status of its resource: conditions,
// counts and members.
//
// It is pure: one function for each condition takes an [Observation] to a reason and a message, and
// the time is an argument. Degraded follows from a list of policies, each a function with a name.
// Conditions are as in KEP-1623: a reason is a CamelCase constant that a program may compare; a
// message is for people, and says with numbers what the network waits for. docs/operations.md,
// "Kubernetes: conditions and reasons", says of each reason what it means and what to do. A test
// keeps that table complete.
//
// A condition changes at the first look that has a reason for it. The package does not damp
// flapping validators: [membership.Memory] does that before.
//
// The package does not write anything. [WriteDue] says when a status is worth an API request.
package status
