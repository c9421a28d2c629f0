// Package membership decides the next step for the validators of a network: which pod the operator
// deletes so that it comes back with the wanted template, or why it deletes none. The package is
// pure: it takes an observation and returns a decision. It has no client and no clock, so that
// every rule is a line in a table of tests.
//
// It promises of each decision:
//
//   - A pod is deleted without a quorum only if that takes no vote away: the pod is not ready, and
//     its node does not say that it is. That holds without a quorum, too; else a wrong image could
//     not be repaired.
//   - Any other pod is deleted only if at least the threshold of other validators are caught up,
//     unless the user allows downtime.
//   - One at a time. No other pod is deleted until a restarted pod is back. So a bad image costs
//     one validator, not all n - t that the chain could do without.
//   - A victim has the name of its validator and pod, and its UID. The planner chooses it by its
//     state, never by its place in a list or its absence from one: a cache that lags shows short
//     lists.
//
// [Network.Standings] defines when a validator is caught up. Everything unknown counts against a
// restart: a missing, silent or terminating pod does not vote. So an observation that is too old
// can only make the planner wait, with one exception: a pod that was well and has failed since. No
// observer can close that race; the chain then waits for the pod that is on its way back.
//
// The network that is decided on and the network that is shown differ. A flapping validator counts
// for a restart at each look at which it votes, but the status shows it as missing until it has
// voted for a while. [Memory.Show] makes a [Shown] of a [Network]. The planner takes a Network, so
// that planning on a Shown does not compile.
//
// [PlanSet] decides what should stand for a change of the set of validators: newcomers to make, the
// target and the checkpoint of the peers file, the budget, and the validators to stop. It promises:
//
//   - The set is the one that the chain says. No answer of a node makes it stop a validator or call
//     a key spent.
//   - There is one change at a time. A target is written only if enough validators of the present
//     set vote and enough of the next one could, under a budget that protects both.
//   - Every validator that a target of the present generation named is kept until the generation
//     moves, because endorsements cannot be taken back.
//   - No name is used twice, whatever lists lack.
//
// It does not know whether the change is ordered: the nodes do that, and the next observation
// shows it.
package membership
