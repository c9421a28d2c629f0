#!/usr/bin/env bash
# monitoring.sh [FLAG...]: test alerts and dashboards with Prometheus' own programs. Where they are
# missing, the phase says so and passes: see hack/phase.sh. The flags go to go test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! PROMETHEUS=$(hack/prometheus.sh); then
	reason="prometheus and promtool are not installed, and Debian's package cannot be fetched here"
	echo "alerts and dashboards are not tested: $reason"
	[[ -z ${DISEQ_SKIPPED:-} ]] || echo "test/monitoring: $reason" >>"$DISEQ_SKIPPED"
	exit 0
fi
export PROMETHEUS
exec go test -count=1 -timeout 45m "$@" ./test/monitoring
