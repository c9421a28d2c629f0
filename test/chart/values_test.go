package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLint runs Helm's own linter, warnings being errors, with every set of values.
func TestLint(t *testing.T) {
	t.Parallel()
	for name, values := range valueSets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if stdout, stderr, err := helm(t, "lint", "--strict", chart, "--kube-version", kubeVersion, "--values", valuesFile(t, values)); err != nil {
				t.Errorf("%v\n%s%s", err, stdout, stderr)
			}
		})
	}
}

// TestWrongValuesAreRefused holds the refusal to naming the value and what is wrong with it.
func TestWrongValuesAreRefused(t *testing.T) {
	t.Parallel()
	for values, want := range map[string][]string{
		`{replica: 2}`:                                   {"replica"},
		`{image: {name: x}}`:                             {"/image", "name"},
		`{replicas: two}`:                                {"/replicas", "integer"},
		`{replicas: -1}`:                                 {"/replicas", "minimum"},
		`{watchNamespaces: team-a}`:                      {"/watchNamespaces", "array"},
		`{watchNamespaces: [Team]}`:                      {"/watchNamespaces/0", "pattern"},
		`{watchNamespaces: [a, a]}`:                      {"/watchNamespaces", "equal"},
		`{image: {digest: "0123"}}`:                      {"/image/digest", "pattern"},
		`{image: {repository: ""}}`:                      {"/image/repository", "minLength"},
		`{nodeImage: {tag: "a b"}}`:                      {"/nodeImage/tag", "pattern"},
		`{image: {pullPolicy: Sometimes}}`:               {"/image/pullPolicy", "IfNotPresent"},
		`{log: {level: loud}}`:                           {"/log/level", "info"},
		`{crds: {install: "yes"}}`:                       {"/crds/install", "boolean"},
		`{serviceAccount: {create: false}}`:              {"/serviceAccount/name", "minLength"},
		`{podDisruptionBudget: {enabled: 1}}`:            {"/podDisruptionBudget/enabled", "boolean"},
		`{allowed: {images: x}}`:                         {"/allowed", "images"},
		`{allowed: {annotations: ["a*"]}}`:               {"/allowed/annotations/0", "pattern"},
		`{allowed: {podLabels: team}}`:                   {"/allowed/podLabels", "array"},
		`{ids: Mine}`:                                    {"/ids", "Platform"},
		`{tolerationSeconds: -1}`:                        {"/tolerationSeconds", "minimum"},
		`{networkPolicy: {apiServerPorts: []}}`:          {"/networkPolicy/apiServerPorts", "minItems"},
		`{networkPolicy: {metricsFrom: []}}`:             {"/networkPolicy/metricsFrom", "minItems"},
		`{networkPolicy: {metricsFrom: [{pod: {}}]}}`:    {"/networkPolicy/metricsFrom/0", "pod"},
		`{resources: {limits: {memory: lots}}}`:          {"/resources/limits/memory", "pattern"},
		`{resources: {limit: {memory: 1Gi}}}`:            {"/resources", "limit"},
		`{tolerations: [{efect: NoSchedule}]}`:           {"/tolerations/0", "efect"},
		`{affinity: {nodes: {}}}`:                        {"/affinity", "nodes"},
		`{commonLabels: {"-a": b}}`:                      {"'-a'"},
		`{podLabels: {a: "b c"}}`:                        {"/podLabels/a", "pattern"},
		`{fullnameOverride: Name}`:                       {"/fullnameOverride", "pattern"},
		`{metrics: {serviceMonitor: {interval: often}}}`: {"/metrics/serviceMonitor/interval", "pattern"},
	} {
		t.Run(values, func(t *testing.T) {
			t.Parallel()
			_, stderr, err := template(t, chart, "--values", valuesFile(t, values))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, part := range want {
				if !strings.Contains(stderr, part) {
					t.Errorf("refused without a word of %q: %s", part, stderr)
				}
			}
		})
	}
}

// schema is what these tests read of values.schema.json.
type schema struct {
	Type                 any               `json:"type"`
	Description          string            `json:"description"`
	Ref                  string            `json:"$ref"`
	Properties           map[string]schema `json:"properties"`
	AdditionalProperties any               `json:"additionalProperties"`
}

// leaf is a value that the chart documents on its own.
type leaf struct {
	path        string
	value       any
	description string
}

// leaves walks values.yaml and its schema together: a value that is in one of them alone, and an
// object that takes unknown values, fails the test.
func leaves(t *testing.T, prefix string, values map[string]any, s schema) []leaf {
	t.Helper()
	if s.AdditionalProperties != false {
		t.Errorf("%q: the schema takes values that it does not know", prefix)
	}
	for name := range s.Properties {
		if _, ok := values[name]; !ok && prefix+name != "global" {
			t.Errorf("%s%s: in the schema, not in values.yaml", prefix, name)
		}
	}
	var found []leaf
	for name, value := range values {
		path := prefix + name
		property, ok := s.Properties[name]
		if !ok {
			t.Errorf("%s: in values.yaml, not in the schema", path)
			continue
		}
		if property.Description == "" {
			t.Errorf("%s: the schema does not describe it", path)
		}
		inner, nested := value.(map[string]any)
		// An empty value is for the user to set as a whole, and so is one that would be wrong if
		// half set. Labels may have any name.
		whole := []string{"resources", "metrics.serviceMonitor.tlsConfig", "metrics.dashboards.labels"}
		if nested && len(inner) > 0 && !slices.Contains(whole, path) {
			found = append(found, leaves(t, path+".", inner, property)...)
			continue
		}
		found = append(found, leaf{path, value, property.Description})
	}
	return found
}

// TestEveryValueIsDescribed holds values.yaml, values.schema.json and the table of README.md to one
// another.
func TestEveryValueIsDescribed(t *testing.T) {
	t.Parallel()
	values := read[map[string]any](t, "charts/diseq-operator/values.yaml")
	b, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(chart, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(readme), "\n|---|---|---|\n")
	if !ok {
		t.Fatal("README.md has no table of values")
	}
	rows := map[string]bool{}
	for row := range strings.Lines(table) {
		rows[strings.TrimSpace(row)] = true
	}
	for _, l := range leaves(t, "", values, s) {
		value, err := json.Marshal(l.value)
		if err != nil {
			t.Fatal(err)
		}
		row := fmt.Sprintf("| `%s` | `%s` | %s |", l.path, value, l.description)
		if !rows[row] {
			t.Errorf("README.md lacks this row:\n%s", row)
		}
		delete(rows, row)
	}
	for row := range rows {
		t.Errorf("README.md has a row for no value, or a wrong one:\n%s", row)
	}
}
