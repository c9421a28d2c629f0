package house

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/diseq/diseq/hack/metricslist"
)

// alertRule is a rule of Prometheus' rule files.
type alertRule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// ruleFile is one of those files.
type ruleFile struct {
	Groups []struct {
		Name  string      `json:"name"`
		Rules []alertRule `json:"rules"`
	} `json:"groups"`
}

func (f ruleFile) rules() (all []alertRule) {
	for _, g := range f.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// metricsTable describes metrics by what their registry says of them.
func metricsTable(metrics []metricslist.Metric) string {
	var b strings.Builder
	b.WriteString("| metric | type | meaning |\n|---|---|---|\n")
	for _, m := range metrics {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "{" + strings.Join(m.Labels, ",") + "}"
		}
		fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", m.Name, labels, m.Type, m.Help)
	}
	return b.String()
}

const (
	// repositoryURL is where alerts link to the documents.
	repositoryURL = "https://github.com/diseq/diseq/blob/main/docs/"
	runbooks      = "operations.md"
)

// alertsTable lists alerts, each with the section that says what to do.
func alertsTable(rules []alertRule, sections map[string]string) string {
	var b strings.Builder
	b.WriteString("| alert | severity | after | meaning | what to do |\n|---|---|---|---|---|\n")
	for _, r := range rules {
		after := r.For
		if after == "" {
			after = "at once"
		}
		link := strings.TrimPrefix(r.Annotations["runbook_url"], repositoryURL)
		_, anchor, _ := strings.Cut(link, "#")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | [%s](%s) |\n", r.Alert, r.Labels["severity"], after, meaning(r.Annotations["summary"]),
			sections[anchor], link)
	}
	return b.String()
}

var placeholder = regexp.MustCompile(`\{\{ *\$labels\.([a-z]+) *\}\}`)

// meaning is a summary for a table: a label is named instead of shown.
func meaning(summary string) string {
	return placeholder.ReplaceAllStringFunc(summary, func(s string) string {
		return "*" + placeholder.FindStringSubmatch(s)[1] + "*"
	})
}

// wrongRules says what is wrong with alerts: a section that is not there, no severity, a metric
// that no program has.
func wrongRules(rules []alertRule, sections map[string]string, known []metricslist.Metric) (wrong []string) {
	seen := map[string]bool{}
	for _, r := range rules {
		anchor, ok := strings.CutPrefix(r.Annotations["runbook_url"], repositoryURL+runbooks+"#")
		if !ok || sections[anchor] == "" {
			wrong = append(wrong, fmt.Sprintf("%s: docs/%s has no section for runbook_url %q", r.Alert, runbooks, r.Annotations["runbook_url"]))
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			wrong = append(wrong, fmt.Sprintf("%s: severity %q", r.Alert, r.Labels["severity"]))
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			wrong = append(wrong, r.Alert+": no summary or no description")
		}
		if seen[r.Alert] {
			wrong = append(wrong, r.Alert+" is there twice")
		}
		seen[r.Alert] = true
		for _, name := range unknownMetrics(r.Expr, known) {
			wrong = append(wrong, fmt.Sprintf("%s: there is no metric %s", r.Alert, name))
		}
	}
	return wrong
}

// dashboard is as much of Grafana's JSON as says what is asked of Prometheus.
type dashboard struct {
	UID        string `json:"uid"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

var variableName = regexp.MustCompile(`\$([a-z]+)`)

// wrongDashboard says what is wrong with a dashboard: a panel without a query, a metric that no
// program has, a choice that is not offered.
func wrongDashboard(d dashboard, known []metricslist.Metric) (wrong []string) {
	offered := map[string]bool{}
	query := func(of, text string) {
		for _, name := range unknownMetrics(text, known) {
			wrong = append(wrong, fmt.Sprintf("%s: there is no metric %s", of, name))
		}
		for _, m := range variableName.FindAllStringSubmatch(text, -1) {
			if !offered[m[1]] {
				wrong = append(wrong, fmt.Sprintf("%s: there is no choice $%s", of, m[1]))
			}
		}
	}
	for _, v := range d.Templating.List {
		query("the choice "+v.Name, v.Definition)
		offered[v.Name] = true
	}
	seen := map[int]bool{}
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			wrong = append(wrong, p.Title+": no query")
		}
		if p.Title == "" || seen[p.ID] {
			wrong = append(wrong, fmt.Sprintf("panel %d %q: no title, or its number is taken", p.ID, p.Title))
		}
		seen[p.ID] = true
		for _, t := range p.Targets {
			query(p.Title, t.Expr)
		}
	}
	return wrong
}

var metricName = regexp.MustCompile(`\bdiseq_[a-z_]+`)

// unknownMetrics returns the names in a query that are none of ours.
func unknownMetrics(query string, known []metricslist.Metric) (unknown []string) {
	for _, name := range metricName.FindAllString(query, -1) {
		if !slices.ContainsFunc(known, func(m metricslist.Metric) bool {
			suffixes := []string{"_bucket", "_sum", "_count"}
			return m.Name == name || m.Type == "histogram" && slices.Contains(suffixes, strings.TrimPrefix(name, m.Name))
		}) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

var notInAnchors = regexp.MustCompile(`[^a-z0-9 _-]`)

// sectionsOf returns the headings of a document, by their anchors as GitHub makes them.
func sectionsOf(document string) map[string]string {
	code, sections := false, map[string]string{}
	for line := range strings.Lines(document) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		marks, title, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && !code && strings.Trim(marks, "#") == "" {
			sections[strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(title), ""), " ", "-")] = title
		}
	}
	return sections
}
