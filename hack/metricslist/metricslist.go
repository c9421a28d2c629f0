// Package metricslist lists the metrics of a program as its registry describes them: name, type,
// labels, help. A test compares the list with the committed one, from which `go test ./test/house
// -update` makes docs/metrics.md, and against which the queries of dashboards and alerts are held.
package metricslist

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// Metric describes a metric.
type Metric struct {
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	Labels []string `json:"labels,omitempty"`
	Help   string   `json:"help"`
}

// Prefix is what the names of our own metrics begin with; those of libraries are not listed.
const Prefix = "diseq_"

// Read reads a committed list.
func Read(path string) ([]Metric, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var metrics []Metric
	return metrics, json.Unmarshal(text, &metrics)
}

// Check fails the test if a name, a unit or a type of a registry breaks Prometheus' conventions, or
// if the list at path is another one; with update it writes the list. Metrics without series count
// too. Their type is not known, unless their name ends in _total.
func Check(t *testing.T, registry *prometheus.Registry, path string, update bool) {
	t.Helper()
	metrics, err := list(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range lint(metrics) {
		t.Error(w)
	}
	want, err := json.MarshalIndent(metrics, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	got, err := os.ReadFile(path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		t.Error(err)
	case string(got) == string(want):
	case update:
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Error(err)
		}
	default:
		t.Errorf("%s is not the list of the metrics: run this test with -update, then go test ./test/house -update", path)
	}
}

func lint(metrics []Metric) (wrong []string) {
	families := make([]*dto.MetricFamily, 0, len(metrics))
	for _, m := range metrics {
		kind := dto.MetricType(dto.MetricType_value[strings.ToUpper(m.Type)])
		series := &dto.Metric{}
		for _, label := range m.Labels {
			series.Label = append(series.Label, &dto.LabelPair{Name: &label})
		}
		families = append(families, &dto.MetricFamily{Name: &m.Name, Help: &m.Help, Type: &kind, Metric: []*dto.Metric{series}})
		if !strings.HasSuffix(m.Help, ".") {
			wrong = append(wrong, fmt.Sprintf("%s: its help %q does not end with a full stop", m.Name, m.Help))
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	for _, p := range problems {
		wrong = append(wrong, p.Metric+": "+p.Text)
	}
	return wrong
}

var description = regexp.MustCompile(`^Desc\{fqName: ("[^"]*"), help: ("(?:[^"\\]|\\.)*"), (?:unit: "[^"]*", )?` +
	`constLabels: \{\}, variableLabels: \{([^}]*)\}\}$`)

// list describes the metrics of a registry, sorted by their names.
func list(registry *prometheus.Registry) ([]Metric, error) {
	gathered, err := registry.Gather()
	if err != nil {
		return nil, err
	}
	types := map[string]string{}
	for _, family := range gathered {
		types[family.GetName()] = strings.ToLower(family.GetType().String())
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		registry.Describe(descriptions)
	}()
	var metrics []Metric
	var errs []error
	for d := range descriptions {
		text := d.String()
		if !strings.Contains(text, `fqName: "`+Prefix) {
			continue
		}
		m, err := described(text, types)
		metrics, errs = append(metrics, m), append(errs, err)
	}
	slices.SortFunc(metrics, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	return metrics, errors.Join(errs...)
}

func described(text string, types map[string]string) (m Metric, err error) {
	parts := description.FindStringSubmatch(text)
	if parts == nil {
		return m, fmt.Errorf("cannot read %s", text)
	}
	if m.Name, err = strconv.Unquote(parts[1]); err != nil {
		return m, fmt.Errorf("%s: %w", text, err)
	}
	if m.Help, err = strconv.Unquote(parts[2]); err != nil {
		return m, fmt.Errorf("%s: %w", text, err)
	}
	if parts[3] != "" {
		m.Labels = strings.Split(parts[3], ",")
	}
	if m.Type = types[m.Name]; m.Type == "" && strings.HasSuffix(m.Name, "_total") {
		m.Type = "counter"
	}
	if m.Type == "" {
		return m, fmt.Errorf("%s has no series, so its type is not known: let the test make one", m.Name)
	}
	return m, nil
}
