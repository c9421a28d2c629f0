package processes

import (
	"testing"

	"github.com/diseq/diseq/test/system"
)

// Promise 46.
func TestFlowOfTheProofOfConcept(t *testing.T) {
	n := system.Start(t, system.Options{})
	system.ProofOfConceptFlow(t, n.Nodes[0], n.Genesis.Threshold, soon)
}
