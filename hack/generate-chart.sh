#!/usr/bin/env bash
# generate-chart.sh: copy into charts/diseq-operator/files what its templates read of config/: the
# CRD, the rules of the roles, the admission policies. A chart can read its own files alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

files=charts/diseq-operator/files
# A role that is gone must not leave its copy behind.
rm -rf "$files"
mkdir -p "$files/admission"
cp config/admission/*_policy.yaml "$files/admission/"
cp config/crd/bases/diseq.io_diseqnetworks.yaml "$files/crd.yaml"
for role in role leader_election_role metrics_auth_role metrics_reader_role diseqnetwork_{admin,editor,viewer}_role; do
	cp "config/rbac/$role.yaml" "$files/"
done
echo "generated $files from config"
