#!/usr/bin/env bash
# generate-chart.sh: copy into charts/diseq-operator/files what its templates read of config/: the
# CRD, the rules of the roles, the admission policies, the alerts, the dashboards. A chart can read its
# own files alone.
# kubectl apply -k gets the alerts as PrometheusRules.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

files=charts/diseq-operator/files
# A role that is gone must not leave its copy behind.
rm -rf "$files"
mkdir -p "$files/admission" "$files/dashboards" "$files/rules"
cp config/admission/*_policy.yaml "$files/admission/"
cp config/crd/bases/diseq.io_diseqnetworks.yaml "$files/crd.yaml"
for role in role leader_election_role metrics_auth_role metrics_reader_role diseqnetwork_{admin,editor,viewer}_role; do
	cp "config/rbac/$role.yaml" "$files/"
done
cp config/grafana/*.json "$files/dashboards/"
cp config/prometheus/rules/*.yaml "$files/rules/"
for rules in nodes operator; do
	printf -- '---\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: diseq-operator-%s\n  namespace: diseq-system\nspec:\n' "$rules"
	sed -n 's/^[^#]/  &/p' "config/prometheus/rules/$rules.yaml"
done >config/prometheus/prometheus_rules.yaml
echo "generated $files from config"
