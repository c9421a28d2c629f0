package monitoring

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/test/system"
)

// soon is how long anything may take that is a matter of seconds on a machine with time to spare.
const soon = 5 * time.Minute

// job is what Prometheus reads under one name: targets by the value of their label instance.
type job struct {
	name    string
	targets map[string]string
	// honor keeps the labels of the metrics where they have the names of the targets' own.
	honor bool
}

// prometheus is a server that reads its jobs, and evaluates hasty rules, every two seconds.
type prometheus struct {
	t   *testing.T
	url string
	// said is where its output is.
	said string
}

var (
	forTimes = regexp.MustCompile(`(?m)^( *)for: .*$`)
	ranges   = regexp.MustCompile(`\[[0-9]+m\]`)
)

// hasty makes alerts that take seconds where the real ones take minutes. Ranges of hours stay: such
// an alert goes on to fire until the test ends.
func hasty(rules string) string {
	return ranges.ReplaceAllString(forTimes.ReplaceAllString(rules, "${1}for: "+hastyFor), "["+hastyRange+"]")
}

// interval is as long as the machine may keep a node from answering: a scrape that fails makes its
// series vanish.
const interval, hastyFor, hastyRange = "2s", "4s", "12s"

// startPrometheus starts it with all alerts, on loopback. It ends with the test.
func startPrometheus(t *testing.T, jobs ...job) *prometheus {
	t.Helper()
	dir := t.TempDir()
	p := &prometheus{t: t, said: filepath.Join(dir, "prometheus.log")}
	config := map[string]any{
		"global":     map[string]any{"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
		"rule_files": []string{"rules-*.yaml"},
	}
	var scrapes []any
	for _, j := range jobs {
		var targets []any
		for instance, address := range j.targets {
			targets = append(targets, map[string]any{
				"targets": []string{strings.TrimPrefix(address, "http://")}, "labels": map[string]string{"instance": instance},
			})
		}
		scrapes = append(scrapes, map[string]any{"job_name": j.name, "honor_labels": j.honor, "static_configs": targets})
	}
	config["scrape_configs"] = scrapes
	text, err := yaml.Marshal(config)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "prometheus.yaml"), text, 0o600))
	for _, path := range ruleFiles(t) {
		rules, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "rules-"+filepath.Base(path)), []byte(hasty(string(rules))), 0o600))
	}
	address := fmt.Sprintf("127.0.0.1:%d", system.FreePorts(t, 1))
	p.url = "http://" + address
	log, err := os.Create(p.said)
	must(t, err)
	command := exec.Command(tool(t, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yaml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	command.Dir, command.Stdout, command.Stderr = dir, log, log
	command.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	must(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended
		_ = command.Wait()         // killed
		_ = log.Close()            // nothing reads it any more
		if t.Failed() {
			text, _ := os.ReadFile(p.said)
			t.Logf("Prometheus said:\n%s", text)
		}
	})
	system.Eventually(t, soon, "Prometheus is ready", func() error { return p.get("/-/ready", nil) })
	return p
}

// get reads an answer into out, unless that is nil.
func (p *prometheus) get(path string, out any) error {
	r, err := http.Get(p.url + path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if out == nil {
		if r.StatusCode != http.StatusOK {
			return errors.New(r.Status)
		}
		return nil
	}
	return json.NewDecoder(r.Body).Decode(out)
}

// query returns the labels of the series that a query has.
func (p *prometheus) query(expr string) ([]map[string]string, error) {
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := p.get("/api/v1/query?"+url.Values{"query": {expr}}.Encode(), &answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	var series []map[string]string
	for _, r := range answer.Data.Result {
		series = append(series, r.Metric)
	}
	return series, nil
}

// awaitData waits until a query has a series.
func (p *prometheus) awaitData(what, expr string) {
	p.t.Helper()
	system.Eventually(p.t, soon, what+" has data", func() error {
		series, err := p.query(expr)
		if err == nil && len(series) == 0 {
			err = errors.New("no data: " + expr)
		}
		return err
	})
}

// firing returns the alerts that fire, each with what tells it from others of its name.
func (p *prometheus) firing() ([]string, error) {
	series, err := p.query(`ALERTS{alertstate="firing"}`)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, s := range series {
		name := []string{s["alertname"]}
		for _, label := range []string{"job", "instance", "peer", "reason", "what"} {
			if v := s[label]; v != "" {
				name = append(name, v)
			}
		}
		names = append(names, strings.Join(name, " "))
	}
	return slices.Sorted(slices.Values(names)), nil
}

// awaitAlerts waits until these alerts fire and no others do.
func (p *prometheus) awaitAlerts(when string, want ...string) {
	p.t.Helper()
	began := time.Now()
	want = slices.Sorted(slices.Values(want))
	system.Eventually(p.t, soon, when+": exactly these alerts fire: "+strings.Join(want, ", "), func() error {
		names, err := p.firing()
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return slices.Contains(names, name) })
		more := slices.DeleteFunc(names, func(name string) bool { return slices.Contains(want, name) })
		if len(missing)+len(more) > 0 {
			return fmt.Errorf("missing are %q, and %q fire beside", missing, more)
		}
		return nil
	})
	p.t.Logf("%s: after %v", when, time.Since(began).Round(time.Second))
	p.checkTexts()
}

var unexpanded = regexp.MustCompile(`error expanding|<no value>|\{\{|  | [.,)]|\(\)`)

// checkTexts holds that each annotation of an alert is a text for people.
func (p *prometheus) checkTexts() {
	p.t.Helper()
	var answer struct {
		Data struct {
			Alerts []struct{ Labels, Annotations map[string]string }
		}
	}
	if err := p.get("/api/v1/alerts", &answer); err != nil {
		p.t.Error(err)
	}
	for _, a := range answer.Data.Alerts {
		for key, text := range a.Annotations {
			if unexpanded.MatchString(text) {
				p.t.Errorf("%s of %v: %q", key, a.Labels, text)
			}
		}
	}
}

// panels are the queries of a dashboard, with these choices made.
func panels(t *testing.T, name string, chosen ...string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../config/grafana/" + name + ".json")
	must(t, err)
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(text, &d))
	queries := map[string]string{}
	choices := strings.NewReplacer(append(chosen, "$__rate_interval", "20s")...)
	for _, p := range d.Panels {
		for i, target := range p.Targets {
			queries[fmt.Sprintf("%s: %s, %d", name, p.Title, i)] = choices.Replace(target.Expr)
		}
	}
	if len(queries) == 0 {
		t.Fatalf("%s has no queries", name)
	}
	return queries
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
