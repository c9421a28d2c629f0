// Package house holds the repository to its own plan: which package may import which, which test
// holds which promise, which metrics and alerts there are. These are tables in the documents:
//
//	go test ./test/house -update
//
// writes them into docs/architecture.md, docs/promises.md and docs/metrics.md.
package house
