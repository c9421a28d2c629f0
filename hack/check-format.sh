#!/usr/bin/env bash
# check-format.sh: fail, with the difference, on a Go file that gofmt would change.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

status=0
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard -- '*.go' |
	while IFS= read -r -d '' file; do if [[ -e $file ]]; then printf '%s\0' "$file"; fi; done |
	xargs -0 -r gofmt -d >&2 || status=$?
if [[ $status -ne 0 ]]; then
	echo "run: make fmt" >&2
	exit 1
fi
