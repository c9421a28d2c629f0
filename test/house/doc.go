// Package house holds the repository to its own plan: which package may import which, and which
// test holds which promise. Both are tables in the documents:
//
//	go test ./test/house -update
//
// writes them into docs/architecture.md and docs/promises.md.
package house
