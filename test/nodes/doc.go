// Package nodes holds tests of whole nodes under virtual time: HTTP, mempool, gRPC with mutual TLS
// between the nodes, SQLite, trie, VRF proofs and consensus, all of it as it runs in production,
// four to seven nodes in one process inside a bubble of testing/synctest. Two things are not real.
// The clock moves on when every goroutine waits for it. On the wire between the nodes, a test
// delays, holds back and cuts as it likes.
//
// A node is killed by letting nothing leave it from one instant on, often in the midst of its work,
// and copying its files a moment later: what it wrote in between nobody has heard of, so it may
// stay, be lost or be torn in the copy, and all three occur. The next start is on the copy.
//
// Faults are drawn from a seed, which a failure prints together with the faults and the nodes' last
// lines. The seed fixes the faults and not the interleaving: the goroutines of a bubble run in
// parallel, keys and VRF proofs are random. So a seed tried again may pass; what has to be replayed
// exactly is for node/simulation, with consensus alone. Real processes, signals and disks are
// test/processes.
package nodes
