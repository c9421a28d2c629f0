#!/usr/bin/env bash
# check-modules.sh: the downloaded modules are those of go.sum, and every go.mod is what its sources
# need.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for dir in . hack/tools hack/tools/{golangci,helm,compose} hack/image hack/kind/go/*; do
	echo "$dir: $(go -C "$dir" mod verify)"
done
# Modules without sources of our own are left out: tidying fetches the test dependencies of a
# thousand modules.
for dir in . hack/tools hack/image; do
	go -C "$dir" mod tidy -diff || {
		echo "run: go -C $dir mod tidy" >&2
		exit 1
	}
done
