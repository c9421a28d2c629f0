// Package system runs diseq as what it is in production, a process for each validator, and holds it
// to its promises from the outside: over HTTP, with kill -9, and with node/chain alone to verify
// what the nodes say.
//
// A [Network] is a devnet whose processes end with the test. A [Load] submits messages that exist
// once and keeps a [Ledger] of what was answered 202. A [History] remembers the first answer about
// each height, from whichever node, and holds every later answer to it. [Network.Audit] then reads
// all chains in full and finds forks, gaps, changed blocks, lost, repeated, invented and reordered
// messages, and receipts that do not verify.
//
// Nothing here waits for a fixed time: waits have a condition and a deadline. Nothing here measures
// speed against a limit either; that is test/bench.
package system
