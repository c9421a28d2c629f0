package e2e

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diseq/diseq/test/transcript"
)

// The commands of docs/tutorial.md for a cluster do what the page shows, on the network that make
// demo leaves behind.
func TestTheTutorialOnACluster(t *testing.T) {
	document, err := os.ReadFile(root("docs", "tutorial.md"))
	must(t, err)
	steps := transcript.Steps(t, string(document), "On a cluster")
	if len(steps) < 12 {
		t.Fatalf("the page has %d commands for a cluster", len(steps))
	}
	n := cluster.Network(t, cluster.Namespace(t, "tutorial"), "demo", 4)
	n.Apply(n.Spec())
	n.AwaitAvailable()
	n.AwaitConverged()
	for i := range steps {
		for _, text := range []*string{&steps[i].Command, &steps[i].Output} {
			*text = strings.ReplaceAll(*text, "diseq-demo", n.Namespace)
		}
	}

	dir := t.TempDir()
	config, err := os.ReadFile(os.Getenv("KUBECONFIG")) // the page sets the namespace in it
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "kubeconfig"), config, 0o600))
	plugin, err := filepath.Abs(cmp.Or(os.Getenv("E2E_PLUGIN"), root("bin", "kubectl-diseq")))
	must(t, err)
	transcript.OpenTerminal(t, dir, "KUBECONFIG="+filepath.Join(dir, "kubeconfig"),
		"PATH="+filepath.Dir(plugin)+string(os.PathListSeparator)+os.Getenv("PATH")).Compare(soon, steps...)
}
