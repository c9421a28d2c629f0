// Command dashboards writes the dashboards of config/grafana, which this package describes: a query
// and a title say what a panel is for, and Grafana's JSON says the rest at length.
//
//	go run ./hack/dashboards DIR
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./hack/dashboards DIR")
		os.Exit(2)
	}
	for _, d := range dashboards {
		text, err := json.MarshalIndent(d.json(), "", "  ")
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Args[1], d.name+".json"), append(text, '\n'), 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// panel is one picture. Each of its queries has a legend, in which {{label}} stands for the value
// of a label.
type panel struct {
	title, about string
	kind         string // stat, named or graph
	unit         string
	queries      []query
	// red and green are the values from which a stat has the color; nil leaves it plain.
	steps []step
}

type query struct{ expr, legend string }

type step struct {
	color string
	from  *float64
}

// row is a line of panels under a heading.
type row struct {
	title  string
	panels []panel
}

// variable is a choice above the panels: the values of a label.
type variable struct{ name, label, query string }

type dashboard struct {
	name, title, about string
	variables          []variable
	rows               []row
}

type object map[string]any

const (
	columns = 24
	height  = 8

	// datasource is the choice of a Prometheus, and the field that names it.
	datasource = "datasource"
	// typeOf is the field that says what an object is.
	typeOf = "type"
)

func (d dashboard) json() object {
	variables := make([]object, 0, 1+len(d.variables))
	variables = append(variables, object{"name": datasource, "label": "Prometheus", typeOf: datasource, "query": "prometheus"})
	for _, v := range d.variables {
		variables = append(variables, object{
			"name": v.name, "label": v.label, typeOf: "query", datasource: source(), "definition": v.query,
			"query": object{"query": v.query, "refId": v.name}, "refresh": 2, "sort": 1,
		})
	}
	var panels []object
	id, y := 0, 0
	for _, r := range d.rows {
		id++
		panels = append(panels, object{
			"id": id, typeOf: "row", "title": r.title, "collapsed": false, "panels": []object{},
			"gridPos": object{"h": 1, "w": columns, "x": 0, "y": y},
		})
		y++
		h := height
		if r.panels[0].kind != graph {
			h = height / 2
		}
		width := columns / len(r.panels)
		for i, p := range r.panels {
			id++
			shown := p.json()
			shown["id"], shown["gridPos"] = id, object{"h": h, "w": width, "x": i * width, "y": y}
			panels = append(panels, shown)
		}
		y += h
	}
	return object{
		"uid": "diseq-" + d.name, "title": d.title, "description": d.about, "tags": []string{"diseq"}, "schemaVersion": 39, "version": 1,
		"editable": true, "refresh": "10s", "time": object{"from": "now-1h", "to": "now"}, "timezone": "browser",
		"templating": object{"list": variables}, "panels": panels,
		"annotations": object{"list": []object{}},
		"links": []object{{
			typeOf: "dashboards", "title": "DISEQ", "tags": []string{"diseq"}, "asDropdown": true, "includeVars": true, "keepTime": true,
		}},
	}
}

func source() object { return object{typeOf: "prometheus", "uid": "${datasource}"} }

func (p panel) json() object {
	targets := make([]object, 0, len(p.queries))
	for i, q := range p.queries {
		t := object{"refId": string(rune('A' + i)), "expr": q.expr, "legendFormat": q.legend, datasource: source()}
		if p.kind != graph {
			t["instant"] = true
		}
		targets = append(targets, t)
	}
	defaults := object{"unit": p.unit}
	if p.steps != nil {
		steps := make([]object, 0, len(p.steps))
		for _, s := range p.steps {
			steps = append(steps, object{"color": s.color, "value": s.from})
		}
		defaults["thresholds"] = object{"mode": "absolute", "steps": steps}
	}
	kind, options := stat, object{}
	if p.kind == graph {
		kind = graph
		defaults["custom"] = object{"fillOpacity": 8, "showPoints": "never", "spanNulls": false, "axisSoftMin": 0}
		options["legend"] = object{"displayMode": "list", "placement": "bottom"}
		options["tooltip"] = object{"mode": "multi", "sort": "desc"}
	} else {
		options["reduceOptions"] = object{"calcs": []string{"lastNotNull"}}
		options["colorMode"], options["graphMode"], options["textMode"] = "value", plain, "auto"
		if p.kind == named {
			options["textMode"] = "name"
		}
	}
	return object{
		typeOf: kind, "title": p.title, "description": p.about, datasource: source(), "targets": targets, "options": options,
		"fieldConfig": object{"defaults": defaults, "overrides": []object{}},
	}
}
