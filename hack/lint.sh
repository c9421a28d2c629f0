#!/usr/bin/env bash
# lint.sh: golangci-lint over the module and over the tools, the prose check, and shellcheck over the
# scripts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

read -ra golangci <<<"${GOLANGCI_LINT:-go tool -modfile=hack/tools/golangci/go.mod golangci-lint}"
linter=$("${golangci[@]:0:2}" -n "${golangci[@]:2}")
config=$PWD/.golangci.yml

status=0
echo "golangci-lint $("$linter" version --short)"
"$linter" run --config "$config" ./... || status=1
for dir in hack/tools hack/image hack/release test/bench/peers; do
	(cd "$dir" && "$linter" run --config "$config" ./...) || status=1
done
# To lint hyperkube and coredns would be to read all of Kubernetes.
(cd hack/kind/go && "$linter" run --config "$config" ./follow ./mkimg ./pause ./podnet ./probe ./volumes) || status=1

# The cache of go test does not see every file that this reads.
go test -count=1 ./test/prose || status=1

mapfile -t scripts < <(git -c safe.directory='*' ls-files --cached --others --exclude-standard -- '*.sh' .ci/run)
if hack/setup.sh --optional shellcheck=shellcheck; then
	shellcheck --external-sources "${scripts[@]}" || status=1
	echo "shellcheck: ${#scripts[@]} scripts"
else
	echo "shellcheck: skipped, it is not installed and its package cannot be installed here"
fi
exit "$status"
