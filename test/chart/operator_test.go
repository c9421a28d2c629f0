package chart

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// TestOperatorTakesTheArgumentsOfTheChart starts the operator with every command line that the
// chart makes, where there is no cluster: that, and not a flag, must be what it complains of.
func TestOperatorTakesTheArgumentsOfTheChart(t *testing.T) {
	t.Parallel()
	operator := filepath.Join(t.TempDir(), "diseq-operator")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", operator, "github.com/diseq/diseq/cmd/operator")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/operator: %v\n%s", err, out)
	}
	// This machine lacks the files that the chart mounts from a Secret.
	certificates := t.TempDir()
	for _, file := range []string{"tls.crt", "tls.key"} {
		if err := os.WriteFile(filepath.Join(certificates, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, values := range valueSets {
		container := only[*appsv1.Deployment](t, render(t, values)).Spec.Template.Spec.Containers[0]
		args := append([]string{}, container.Args...)
		for i, arg := range args {
			if directory, ok := strings.CutPrefix(arg, "--metrics-cert-path="); ok {
				if len(container.VolumeMounts) != 1 || container.VolumeMounts[0].MountPath != directory {
					t.Errorf("%s: nothing is mounted at %s", name, directory)
				}
				args[i] = "--metrics-cert-path=" + certificates
			}
		}
		command := exec.Command(operator, args...)
		command.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(certificates, "none"), "KUBERNETES_SERVICE_HOST=")
		out, err := command.CombinedOutput()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "find the cluster: ") {
			t.Errorf("%s: %q: %v, want exit code 1 for want of a cluster\n%s", name, args, err, out)
		}
	}
}
