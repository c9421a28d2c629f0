package house

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/hack/metricslist"
)

func readMetrics(t *testing.T) (ofNodes, ofOperator []metricslist.Metric) {
	t.Helper()
	ofNodes, err := metricslist.Read(root + "/node/testdata/metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	if ofOperator, err = metricslist.Read(root + "/controllers/testdata/metrics.json"); err != nil {
		t.Fatal(err)
	}
	return ofNodes, ofOperator
}

func readRules(t *testing.T, name string) []alertRule {
	t.Helper()
	text, err := os.ReadFile(root + "/config/prometheus/rules/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var file ruleFile
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return file.rules()
}

// readSections returns the sections that alerts link to.
func readSections(t *testing.T) map[string]string {
	t.Helper()
	document, err := os.ReadFile(root + "/docs/" + runbooks)
	if err != nil {
		t.Fatal(err)
	}
	return sectionsOf(string(document))
}

func TestEveryAlertLinksToWhatToDo(t *testing.T) {
	ofNodes, ofOperator := readMetrics(t)
	rules := slices.Concat(readRules(t, "nodes.yaml"), readRules(t, "operator.yaml"))
	for _, w := range wrongRules(rules, readSections(t), slices.Concat(ofNodes, ofOperator)) {
		t.Error(w)
	}
}

func TestWrongAlertsAreSeen(t *testing.T) {
	known := []metricslist.Metric{{Name: "diseq_a_seconds", Type: "histogram"}, {Name: "diseq_b", Type: "gauge"}}
	sections := sectionsOf("# One\n```\n# no\n```\n## A \"node\" is down: now\n")
	if want := map[string]string{"one": "One", "a-node-is-down-now": `A "node" is down: now`}; !maps.Equal(sections, want) {
		t.Fatalf("sections %q, want %q", sections, want)
	}
	good := alertRule{
		Alert: "Good", Expr: "diseq_b > rate(diseq_a_seconds_bucket[1m])", Labels: map[string]string{"severity": "warning"},
		Annotations: map[string]string{"summary": "a", "description": "b", "runbook_url": repositoryURL + runbooks + "#one"},
	}
	if wrong := wrongRules([]alertRule{good}, sections, known); wrong != nil {
		t.Error(wrong)
	}
	for want, change := range map[string]func(*alertRule){
		"no section": func(r *alertRule) {
			r.Annotations = map[string]string{"summary": "a", "description": "b", "runbook_url": "#one"}
		},
		"no summary":                   func(r *alertRule) { r.Annotations = map[string]string{} },
		"severity":                     func(r *alertRule) { r.Labels = nil },
		"no metric diseq_c":            func(r *alertRule) { r.Expr = "diseq_b / diseq_c" },
		"no metric diseq_b_bucket":     func(r *alertRule) { r.Expr = "diseq_b_bucket" },
		"no metric diseq_a_seconds_no": func(r *alertRule) { r.Expr = "diseq_a_seconds_no" },
	} {
		bad := good
		change(&bad)
		if wrong := strings.Join(wrongRules([]alertRule{bad}, sections, known), "\n"); !strings.Contains(wrong, want) {
			t.Errorf("%q, want %q", wrong, want)
		}
	}
	if wrong := wrongRules([]alertRule{good, good}, sections, known); len(wrong) != 1 {
		t.Errorf("two of one name: %q", wrong)
	}
}

func TestDashboardsAskForMetricsThatThereAre(t *testing.T) {
	ofNodes, ofOperator := readMetrics(t)
	for name, known := range map[string][]metricslist.Metric{"network": ofNodes, "node": ofNodes, "operator": ofOperator} {
		text, err := os.ReadFile(root + "/config/grafana/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d.UID != "diseq-"+name || len(d.Panels) == 0 {
			t.Errorf("%s: uid %q, %d panels", name, d.UID, len(d.Panels))
		}
		for _, w := range wrongDashboard(d, known) {
			t.Errorf("%s: %s", name, w)
		}
	}
}

func TestWrongDashboardsAreSeen(t *testing.T) {
	known := []metricslist.Metric{{Name: "diseq_a", Type: "gauge"}}
	for want, text := range map[string]string{
		"":                        `{"templating": {"list": [{"name": "job", "definition": "label_values(diseq_a, job)"}]}, "panels": [{"id": 1, "type": "row", "title": "a"}, {"id": 2, "title": "b", "targets": [{"expr": "rate(diseq_a{job=\"$job\"}[$__rate_interval])"}]}]}`,
		"b: there is no metric":   `{"panels": [{"id": 2, "title": "b", "targets": [{"expr": "diseq_b"}]}]}`,
		"job: there is no metric": `{"templating": {"list": [{"name": "job", "definition": "label_values(diseq_b, job)"}]}}`,
		"there is no choice $job": `{"panels": [{"id": 2, "title": "b", "targets": [{"expr": "diseq_a{job=\"$job\"}"}]}]}`,
		"b: no query":             `{"panels": [{"id": 2, "title": "b"}]}`,
		"its number is taken":     `{"panels": [{"id": 1, "type": "row", "title": "a"}, {"id": 1, "type": "row", "title": "b"}]}`,
		"no title, or its number": `{"panels": [{"id": 1, "type": "row"}]}`,
	} {
		var d dashboard
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		if wrong := strings.Join(wrongDashboard(d, known), "\n"); !strings.Contains(wrong, want) || want == "" && wrong != "" {
			t.Errorf("%q, want %q", wrong, want)
		}
	}
}
