// Package membership decides what happens next to the validators of a network: which pod is deleted
// so that it comes back with the wanted template, and why none is. It is pure: what was observed
// goes in, a decision comes out; it has no client and no clock, so that every rule is a line in a
// table of tests.
//
// It promises, of each decision:
//
//   - Only a pod that takes no vote away is deleted without asking for a quorum: it is not ready
//     and its node does not say that it is. That holds under lost quorum, too, or a wrong image
//     could not be repaired.
//   - Any other pod goes only if the caught-up validators without it are at least the threshold,
//     unless the user allows downtime.
//   - One at a time. Until a restarted pod is back no other one goes, so that a bad image costs one
//     validator, not all n - t that the chain could do without.
//   - A victim is named by validator, pod and UID, and is chosen by what it is, never by its place
//     in a list or its absence from one: a cache that lags shows short lists.
//
// What is counted as caught up is in [Network.Standings]. Everything that is not known counts
// against a restart: a missing, silent or terminating pod is one that does not vote. So an
// observation that is too old can only make the planner wait, with one exception: a pod that was
// seen well and has failed since. Nothing that looks from outside can close that race; the chain
// then waits for the pod that is on its way back.
//
// What is decided and what is shown are two things. A validator that votes at every other look
// counts when it does, and is shown as one that does not until it has for a while: [Memory.Show]
// makes a [Shown] of a [Network]. The planner takes a Network, so that planning on the other one
// does not compile.
//
// The set of validators changes only through the chain. This version does not do that: [PlanSet]
// refuses, and pods are rolled according to the set that is in force. Joining and leaving belong
// into PlanSet: one step in flight, a target frozen until it is reached, and victims by name and
// key as here.
package membership
