package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
)

// BenchmarkOperatorWithTenNetworks tells what the operator needs: its resident memory, and of one
// processor while ten converged networks have no traffic. One iteration is one look over lookFor.
func BenchmarkOperatorWithTenNetworks(b *testing.B) {
	const networks, lookFor = 10, time.Minute
	namespace := cluster.Namespace(b, "ten")
	var all []*Network
	for i := range networks {
		n := cluster.Network(b, namespace, fmt.Sprintf("net%d", i), 1)
		n.Apply(n.Spec())
		all = append(all, n)
	}
	for _, n := range all {
		n.AwaitConverged()
	}
	leader, err := cluster.leader(b.Context())
	must(b, err)
	var pod corev1.Pod
	must(b, cluster.Get(b.Context(), ctrl.ObjectKey{Namespace: OperatorNamespace, Name: leader}, &pod))
	worker, pid := pod.Spec.NodeName, cluster.Process(b, &pod, OperatorName)
	var resident, share float64
	for b.Loop() {
		from, begun := cluster.processorTime(b, worker, pid), time.Now()
		select {
		case <-time.After(lookFor):
		case <-b.Context().Done():
			b.Fatal(b.Context().Err())
		}
		share = (cluster.processorTime(b, worker, pid) - from).Seconds() / time.Since(begun).Seconds()
		resident = cluster.resident(b, worker, pid)
	}
	b.ReportMetric(resident/1e6, "MB-resident")
	b.ReportMetric(100*share, "%-of-a-core")
}

// resident is the memory of a process in bytes.
func (c *Cluster) resident(b *testing.B, worker, pid string) float64 {
	b.Helper()
	for line := range strings.Lines(c.Host(b, worker, "cat", "/proc/"+pid+"/status")) {
		if fields := strings.Fields(line); fields[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			must(b, err)
			return kib * 1024
		}
	}
	b.Fatalf("process %s has no VmRSS", pid)
	return 0
}

// processorTime is what a process has used so far, by itself and in the kernel (proc(5): fields 14
// and 15, in hundredths of a second).
func (c *Cluster) processorTime(b *testing.B, worker, pid string) time.Duration {
	b.Helper()
	stat := c.Host(b, worker, "cat", "/proc/"+pid+"/stat")
	_, after, _ := strings.Cut(stat, ") ") // the name before may hold anything
	fields := strings.Fields(after)
	var total time.Duration
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		must(b, err)
		total += time.Duration(ticks) * 10 * time.Millisecond
	}
	return total
}
