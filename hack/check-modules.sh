#!/usr/bin/env bash
# check-modules.sh: the downloaded modules are those of go.sum, every go.mod is what its sources need,
# and the modules that build on client-go pin one version of what they share.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for dir in . hack/tools hack/tools/{golangci,helm,compose} hack/image hack/release hack/kind/go test/bench/peers; do
	echo "$dir: $(go -C "$dir" mod verify)"
done
# Modules without sources of our own are left out: tidying fetches the test dependencies of a
# thousand modules.
for dir in . hack/tools hack/image hack/release; do
	go -C "$dir" mod tidy -diff || {
		echo "run: go -C $dir mod tidy" >&2
		exit 1
	}
done

# One different version, and client-go with all that imports it is compiled once more (decision 0043).
shared=(. hack/tools/helm hack/kind/go)
differing=$(for dir in "${shared[@]}"; do
	awk -v dir="$dir" '$1 ~ /\./ && $2 ~ /^v/ && $3 != "=>" { print $1, $2, dir }' "$dir/go.mod"
done | sort | awk '
	$1 == module && $2 != version { print "  " module " " version " in " dir ", " $2 " in " $3 }
	{ module = $1; version = $2; dir = $3 }')
if [[ -n $differing ]]; then
	printf 'these modules are pinned to several versions; raise each with go -C DIR get MODULE@VERSION:\n%s\n' "$differing" >&2
	exit 1
fi
