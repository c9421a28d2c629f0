package monitoring

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const rulesDir = "../../config/prometheus/rules"

// tool returns the path of a program of Prometheus.
func tool(t *testing.T, name string) string {
	t.Helper()
	folder := os.Getenv("PROMETHEUS")
	if folder == "" {
		t.Fatal("PROMETHEUS is not set: run make monitoring, or set it to the folder of prometheus and promtool")
	}
	return filepath.Join(folder, name)
}

func ruleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(rulesDir + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules in %s: %v", rulesDir, err)
	}
	for i := range files {
		if files[i], err = filepath.Abs(files[i]); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// alerts are the names of all alerts.
func alerts(t *testing.T) (names []string) {
	t.Helper()
	for _, path := range ruleFiles(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Groups []struct {
				Rules []struct {
					Alert string `json:"alert"`
				} `json:"rules"`
			} `json:"groups"`
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				names = append(names, r.Alert)
			}
		}
	}
	return names
}

func TestPromtoolTakesTheRules(t *testing.T) {
	out, err := exec.Command(tool(t, "promtool"), append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, ruleFiles(t)...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// series are what Prometheus has read, in the notation of promtool: a value and its change, each
// minute for samples times.
type series map[string]string

const samples = 80

func flat(value string) string { return value + "+0x" + fmt.Sprint(samples) }

// well is a network of four nodes in which nothing is wrong, with messages that become final all
// the time, and the operator of another one.
func well() series {
	s := series{}
	for i := range 4 {
		with := func(name, value string, labels ...string) {
			s[fmt.Sprintf(`%s{%s}`, name, strings.Join(append([]string{`job="net"`, fmt.Sprintf(`instance="n%d"`, i)}, labels...), ","))] = value
		}
		rising := "0+10x" + fmt.Sprint(samples)
		for name, value := range map[string]string{
			"up": flat("1"), "diseq_height": rising, "diseq_state_height": rising, "diseq_mempool_messages": flat("5"),
			"diseq_headroom": flat("1"), "diseq_validators": flat("4"), "diseq_threshold": flat("3"), "diseq_in_validator_set": flat("1"),
			"diseq_may_vote": flat("1"), "diseq_set_change_pending": flat("0"), "diseq_storage_low": flat("0"),
			"diseq_storage_free_bytes": flat("100000000000"), "diseq_block_timestamp_seconds": "0+60x" + fmt.Sprint(samples),
			"diseq_synchrony_healthy": flat("1"), "diseq_synchrony_breaches_total": flat("0"), "diseq_disk_full_total": flat("0"),
			"diseq_access_problems": flat("0"), "diseq_audit_dropped_total": flat("0"), "diseq_mempool_unacknowledged_total": flat("0"),
			"diseq_tls_certificate_expiry_timestamp_seconds": flat("10000000"),
		} {
			with(name, value)
		}
		with("diseq_votes_withheld_total", flat("0"), `reason="clock"`)
		with("diseq_evidence_total", flat("0"), `rule="E1"`)
		with("diseq_damage_total", flat("0"), `what="block"`)
		with("diseq_vrf_commitments_total", flat("0"), `validator="v1"`, `result="missed"`)
		with("diseq_http_rejected_total", flat("0"), `reason="pool_full"`)
		for _, reason := range []string{"flood", "tls", "unknown_key", "hello", "malformed", "useless", "answer", "penalty"} {
			with("diseq_peer_rejected_total", flat("0"), `reason="`+reason+`"`)
		}
		for j := range 4 {
			if peer := fmt.Sprintf(`peer="v%d"`, j); j != i {
				with("diseq_peer_link_up", flat("1"), peer)
				with("diseq_peer_final_height", rising, peer)
			}
		}
	}
	for name, value := range map[string]string{
		"available": "1", "hibernated": "0", "disruptions_allowed": "1", "validators": "4", "ready_validators": "4", "threshold": "3",
		"membership_changing": "0",
	} {
		s[`diseq_network_`+name+`{job="operator",namespace="a",name="demo"}`] = flat(value)
	}
	s[`leader_election_master_status{job="operator",name="diseq-operator",pod="a"}`] = flat("1")
	s[`leader_election_master_status{job="operator",name="diseq-operator",pod="b"}`] = flat("0")
	s[`controller_runtime_reconcile_errors_total{job="operator",controller="diseqnetwork"}`] = flat("0")
	s[`up{job="something else",instance="x"}`] = flat("0")
	return s
}

// with returns the series of a network that is well but for those of each pattern, an asterisk of
// which stands for anything. A value of "" takes them away.
func with(t *testing.T, changes ...string) series {
	t.Helper()
	s := well()
	for i := 0; i < len(changes); i += 2 {
		pattern, value, found := changes[i], changes[i+1], false
		for name := range s {
			if ok, err := filepath.Match(pattern, name); err != nil {
				t.Fatal(err)
			} else if ok {
				found = true
				if s[name] = value; value == "" {
					delete(s, name)
				}
			}
		}
		if !found {
			t.Fatalf("no series is %s", pattern)
		}
	}
	return s
}

// longer are series that go on as they end, for more than five hours.
func longer(s series) series {
	out := series{}
	for name, values := range s {
		out[name] = strings.TrimSuffix(values, fmt.Sprint("x", samples)) + "x320"
	}
	return out
}

// one is a metric of one node; everywhere is that of all nodes.
func one(name string, labels ...string) string {
	return name + `{` + strings.Join(append([]string{`job="net"`, `instance="n1"`}, labels...), ",") + `}`
}

func everywhere(name string) string { return name + "{*" }

// rises is a counter that rises by n each minute of the last half hour.
func rises(n int) string { return fmt.Sprintf("0+0x%d 0+%dx%d", samples-30, n, 30) }

// Each alert fires for the fault that it is for, and nothing else fires. A fault that brings
// another one with it names both.
func TestEachAlertFiresForItsFaultAlone(t *testing.T) {
	stands := fmt.Sprintf("0+10x%d %d+0x%d", samples-30, 10*(samples-30), 30)
	faults := []struct {
		name   string
		series series
		want   []string
	}{
		{"nothing is wrong", well(), nil},
		{"idle", with(t, everywhere("diseq_height"), flat("7"), everywhere("diseq_state_height"), flat("7"),
			everywhere("diseq_peer_final_height"), flat("7"), everywhere("diseq_mempool_messages"), flat("0")), nil},
		{"stalled", with(t, everywhere("diseq_height"), stands, everywhere("diseq_state_height"), stands,
			everywhere("diseq_peer_final_height"), stands), []string{"DiseqStalled"}},
		{"one node stalls alone", with(t, one("diseq_height"), stands, one("diseq_state_height"), stands), []string{"DiseqNodeBehind"}},
		{"no quorum", with(t, everywhere("diseq_headroom"), flat("-1")), []string{"DiseqNoQuorum"}},
		{"one node hears no quorum", with(t, one("diseq_headroom"), flat("-1")), nil},
		{"the margin is lost", with(t, everywhere("diseq_headroom"), flat("0")), []string{"DiseqMarginLost"}},
		{"there never was a margin", with(t, everywhere("diseq_headroom"), flat("0"), everywhere("diseq_threshold"), flat("4")), nil},
		{"nobody reaches v2", with(t, `diseq_peer_link_up{*peer="v2"}`, flat("0")), []string{"DiseqValidatorMissing"}},
		{"one link is down", with(t, one("diseq_peer_link_up", `peer="v2"`), flat("0")), []string{"DiseqLinkDown"}},
		{"v2 stands still", with(t, `diseq_peer_final_height{*peer="v2"}`, stands), []string{"DiseqPeerBehind"}},
		{"a change is stuck", with(t, one("diseq_set_change_pending"), flat("1")), []string{"DiseqChangeStuck"}},
		{"a change takes its time", with(t, one("diseq_set_change_pending"), fmt.Sprintf("0+0x%d 1+0x%d", samples-20, 20)), nil},
		{"the chain is ahead", with(t, everywhere("diseq_block_timestamp_seconds"), "60+60x"+fmt.Sprint(samples)), []string{"DiseqChainAhead"}},
		{"evidence", with(t, one("diseq_evidence_total", `rule="E1"`), rises(1)), []string{"DiseqEvidence"}},
		{"reveals are missed", with(t, everywhere("diseq_vrf_commitments_total"), rises(1)), []string{"DiseqRevealsMissed"}},
		{"one reveal is missed", with(t, everywhere("diseq_vrf_commitments_total"), fmt.Sprintf("0+0x%d 1+0x%d", samples-30, 30)), nil},
		{"a node is down", with(t, one("up"), flat("0"), one("diseq_height"), "", one("diseq_mempool_messages"), ""), []string{"DiseqNodeDown"}},
		{"the state is behind", with(t, one("diseq_state_height"), "0+9x"+fmt.Sprint(samples)), []string{"DiseqStateBehind"}},
		{"a validator rejoins for ever", with(t, one("diseq_may_vote"), flat("0")), []string{"DiseqNotVoting"}},
		{"an observer", with(t, one("diseq_may_vote"), flat("0"), one("diseq_in_validator_set"), flat("0")), nil},
		{"a validator abstains", with(t, one("diseq_synchrony_healthy"), flat("0")), []string{"DiseqAbstaining"}},
		{"Delta is too small", with(t, one("diseq_synchrony_breaches_total"), rises(1)), []string{"DiseqSynchronyBreaches"}},
		{"no synchrony wait", with(t, everywhere("diseq_synchrony_healthy"), ""), nil},
		{"a clock is wrong", with(t, one("diseq_votes_withheld_total", `reason="clock"`), rises(1)), []string{"DiseqClockSkew"}},
		{"no room", with(t, one("diseq_storage_low"), flat("1")), []string{"DiseqStorageLow"}},
		{"a write failed", with(t, one("diseq_disk_full_total"), rises(1)), []string{"DiseqDiskFull"}},
		{"little room", with(t, one("diseq_storage_free_bytes"), flat("1000000000")), []string{"DiseqDiskFilling"}},
		{"room for a day", with(t, one("diseq_storage_free_bytes"), "100000000000-70000000x"+fmt.Sprint(samples)), []string{"DiseqDiskFilling"}},
		{"damage", with(t, one("diseq_damage_total", `what="block"`), rises(1)), []string{"DiseqDamage"}},
		{"a certificate ends", with(t, one("diseq_tls_certificate_expiry_timestamp_seconds"), flat("600000")), []string{"DiseqCertificateExpires"}},
		{"access files are wrong", with(t, one("diseq_access_problems"), flat("1")), []string{"DiseqAccessFilesWrong"}},
		{"audit lines are lost", with(t, one("diseq_audit_dropped_total"), rises(1)), []string{"DiseqAuditLost"}},
		{"peers' TLS fails", with(t, one("diseq_peer_rejected_total", `reason="tls"`), rises(2)), []string{"DiseqPeerRefused"}},
		{"a port scan", with(t, one("diseq_peer_rejected_total", `reason="tls"`), fmt.Sprintf("0+0x%d 3+0x%d", samples-30, 30)), nil},
		{"a flood of peers", with(t, one("diseq_peer_rejected_total", `reason="useless"`), rises(1)), []string{"DiseqPeerFlood"}},
		{"a flood of clients", with(t, one("diseq_http_rejected_total", `reason="pool_full"`), rises(9)), []string{"DiseqSubmissionsRefused"}},
		{"too few disks", with(t, one("diseq_mempool_unacknowledged_total"), rises(1)), []string{"DiseqOneDisk"}},
		{"no operator works", with(t, `leader_election_master_status{*pod="a"}`, flat("0")), []string{"DiseqOperatorAway"}},
		{"reconciles fail", with(t, "controller_runtime_reconcile_errors_total{*", rises(1)), []string{"DiseqReconcileErrors"}},
		{"a network is not available", with(t, "diseq_network_available{*", flat("0")), []string{"DiseqNetworkUnavailable"}},
		{"a network is hibernated", with(t, "diseq_network_available{*", flat("0"), "diseq_network_hibernated{*", flat("1"),
			"diseq_network_ready_validators{*", flat("0"), "diseq_network_disruptions_allowed{*", flat("0"),
			"diseq_network_membership_changing{*", flat("1")), nil},
		{"no spare validator", with(t, "diseq_network_disruptions_allowed{*", flat("0")), []string{"DiseqNetworkMarginLost"}},
		{"a validator is not ready", with(t, "diseq_network_ready_validators{*", flat("3")), []string{"DiseqNetworkValidatorsNotReady"}},
		{"a change of a network is stuck", with(t, "diseq_network_membership_changing{*", flat("1")), []string{"DiseqNetworkChangeStuck"}},
	}
	const soon, late = "75m", "5h"
	type sample struct {
		Labels string `json:"labels"`
		Value  int    `json:"value"`
	}
	type expression struct {
		Expr    string   `json:"expr"`
		At      string   `json:"eval_time"`
		Samples []sample `json:"exp_samples"`
	}
	type group struct {
		Name        string              `json:"name"`
		Interval    string              `json:"interval"`
		Series      []map[string]string `json:"input_series"`
		Expressions []expression        `json:"promql_expr_test"`
	}
	var groups []group
	untested := alerts(t)
	for _, f := range faults {
		g := group{Name: f.name, Interval: "1m"}
		e := expression{Expr: `group by (alertname) (ALERTS{alertstate="firing"})`, At: soon, Samples: []sample{}}
		if f.name == "room for a day" { // which shows after hours
			e.At, f.series = late, longer(f.series)
		}
		for _, alert := range f.want {
			e.Samples = append(e.Samples, sample{fmt.Sprintf(`{alertname=%q}`, alert), 1})
			untested = slices.DeleteFunc(untested, func(name string) bool { return name == alert })
		}
		for name, values := range f.series {
			g.Series = append(g.Series, map[string]string{"series": name, "values": values})
		}
		g.Expressions = []expression{e}
		groups = append(groups, g)
	}
	if len(untested) > 0 {
		t.Errorf("no fault is played for %q", untested)
	}
	text, err := yaml.Marshal(map[string]any{"rule_files": ruleFiles(t), "evaluation_interval": "1m", "tests": groups})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "faults.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool(t, "promtool"), "test", "rules", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "SUCCESS") {
		t.Errorf("%v\n%s", err, out)
	}
}
