package e2e

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/node/chain"
)

// plugin runs kubectl diseq in the namespace of the network, as kubectl finds it: by the name of
// the program. It returns what was printed, and what was printed as errors.
func (n *Network) plugin(stdin string, args ...string) (stdout, stderr string, err error) {
	n.tb.Helper()
	program, err := filepath.Abs(cmp.Or(os.Getenv("E2E_PLUGIN"), root("bin", "kubectl-diseq")))
	must(n.tb, err)
	command := exec.CommandContext(n.tb.Context(), "kubectl", append([]string{"diseq", "--namespace", n.Namespace}, args...)...)
	command.Env = append(os.Environ(), fmt.Sprintf("PATH=%s%c%s", filepath.Dir(program), os.PathListSeparator, os.Getenv("PATH")))
	var out, errs bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &out, &errs
	err = command.Run()
	return out.String(), errs.String(), err
}

// mustPlugin runs a command that has to succeed.
func (n *Network) mustPlugin(stdin string, args ...string) string {
	n.tb.Helper()
	out, errs, err := n.plugin(stdin, args...)
	if err != nil {
		n.tb.Fatalf("kubectl diseq %q: %v: %s%s", args, err, out, errs)
	}
	return out
}

// checkPlugin tries every command of kubectl diseq on a network in which all is well.
func (n *Network) checkPlugin(t *testing.T) {
	t.Helper()
	screen := n.mustPlugin("", "status", n.Name)
	for _, want := range []string{"available: all 4 validators", n.ValidatorName(3), "has nothing to do (UpToDate)", "1 of 4 may be down"} {
		if !strings.Contains(screen, want) {
			t.Errorf("status has no %q:\n%s", want, screen)
		}
	}
	if strings.Contains(screen, "Degraded") {
		t.Errorf("status finds something wrong:\n%s", screen)
	}

	text := n.mustPlugin("by the plugin", "submit", "--network", n.Name, "--wait", "-")
	receipt, err := chain.ReadReceipt(strings.NewReader(text))
	must(t, err)
	must(t, receipt.Verify(n.MustGenesis(), 0))
	again := n.mustPlugin("", "receipt", receipt.Message.ID.String())
	if verdict := n.mustPlugin(again, "verify", "-"); !strings.HasPrefix(verdict, "verified: message "+receipt.Message.ID.String()) {
		t.Errorf("verify says %s", verdict)
	}
	forged := strings.Replace(again, `"height": `, `"height": 9`, 1)
	if out, _, err := n.plugin(forged, "verify", "-"); forged == again || err == nil || strings.Contains(out, "verified: ") {
		t.Errorf("a forged receipt: %v: %s", err, out)
	}
	blocks := n.mustPlugin("", "tail", "--from", "1", "--count", "2")
	if strings.Count(blocks, "\n") != 2 || !strings.Contains(blocks, `"height":2`) {
		t.Errorf("tail says %.500s", blocks)
	}

	old := n.MustPod(3)
	said := n.mustPlugin("", "restart", n.Name, "--validator", n.ValidatorName(3), "--timeout", soon.String())
	if pod := n.MustPod(3); pod.UID == old.UID || !ready0(pod) || !strings.Contains(said, "restarted "+n.ValidatorName(3)) {
		t.Errorf("%s was not restarted: %s", n.PodName(3), said)
	}
	n.AwaitConverged()
	said = n.mustPlugin("", "replace", n.ValidatorName(2), "--timeout", soon.String())
	want := fmt.Sprintf("%s left, %s joined; the set has 4 validators, generation 1", n.ValidatorName(2), n.ValidatorName(4))
	if !strings.Contains(said, want) {
		t.Errorf("replace says %s", said)
	}
	n.members = []int{0, 1, 3, 4}
	n.checkReport(t)
}

// checkReport holds a report to what it is for, and looks for the keys of the network in it.
func (n *Network) checkReport(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	said := n.mustPlugin("", "report", n.Name, "-o", file)
	files, err := unpack(file)
	must(t, err)
	var secrets corev1.SecretList
	must(t, n.List(t.Context(), &secrets, ctrl.InNamespace(n.Namespace), ctrl.MatchingLabels{"diseq.io/network": n.Name}))
	if len(secrets.Items) != 5 {
		t.Errorf("the network has %d Secrets", len(secrets.Items))
	}
	for name, text := range files {
		for i := range secrets.Items {
			for key, value := range secrets.Items[i].Data {
				if key == "public.json" {
					continue
				}
				for _, form := range []string{string(value), base64.StdEncoding.EncodeToString(value), hex.EncodeToString(value)} {
					if strings.Contains(text, form) {
						t.Errorf("%s has the %s of %s", name, key, secrets.Items[i].Name)
					}
				}
			}
		}
	}
	pod := n.PodName(n.serials()[3])
	for _, name := range []string{
		"status.txt", "network.yaml", "events.txt", "objects/pods.yaml", "objects/secrets-without-contents.yaml", "logs/" + pod + ".log",
		"nodes/" + pod + "/status.json", "nodes/" + pod + "/metrics.txt",
	} {
		if len(files[name]) < 100 {
			t.Errorf("the report has %d bytes of %s; %s\n%s", len(files[name]), name, said, files["errors.txt"])
		}
	}
	if status := files["nodes/"+pod+"/status.json"]; !strings.Contains(status, `"chain_id"`) {
		t.Errorf("the status of a node is %.300s", status)
	}
}

// unpack returns the files of an archive by their names below its folder.
func unpack(file string) (files map[string]string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	packed, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	files = map[string]string{}
	for r := tar.NewReader(packed); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		_, name, _ := strings.Cut(h.Name, "/")
		files[name] = string(text)
	}
}
