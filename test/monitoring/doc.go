// Package monitoring runs what Prometheus is to make of the metrics: the alerts of
// config/prometheus/rules and the dashboards of config/grafana. promtool plays faults to the
// alerts, and a real Prometheus reads networks of processes in which some of these faults happen.
//
// PROMETHEUS is the folder of prometheus and promtool; `make monitoring` fetches them and says
// where they are.
package monitoring
