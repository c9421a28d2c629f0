// Package monitoring runs what Prometheus is to make of the metrics: the alerts of
// config/prometheus/rules. promtool plays faults to them.
//
// PROMETHEUS is the folder of prometheus and promtool; `make monitoring` fetches them and says
// where they are.
package monitoring
