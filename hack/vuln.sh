#!/usr/bin/env bash
# vuln.sh: govulncheck over the module. Its database is a web service: where that cannot be reached nothing is checked, and
# the exit status (2) says so. VULNDB is another database: file:///DIRECTORY with a copy, or https://.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

read -ra govulncheck <<<"${GOVULNCHECK:-go tool -modfile=hack/tools/go.mod govulncheck}"
output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0
[[ -z ${VULNDB:-} ]] || govulncheck+=(-db "$VULNDB")
"${govulncheck[@]}" ./... >"$output" 2>&1 || status=$?
cat "$output"
# govulncheck: 0 is none found, 3 is some found, 1 is that it could not look.
if [[ $status -ne 0 && $status -ne 3 ]] && grep -qE 'vuln\.go\.dev|fetching vulnerabilities' "$output"; then
	echo "NOT CHECKED: the vulnerability database (vuln.go.dev) cannot be reached from here" >&2
	exit 2
fi
exit "$status"
