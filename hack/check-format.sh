#!/usr/bin/env bash
# check-format.sh: fail, with the difference, on a Go file that gofmt would change.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

unformatted=$(git -c safe.directory='*' ls-files -z --cached --others --exclude-standard -- '*.go' |
	while IFS= read -r -d '' file; do [[ -e $file ]] && printf '%s\0' "$file"; done |
	xargs -0 -r gofmt -d)
if [[ -n $unformatted ]]; then
	printf '%s\n' "$unformatted" >&2
	echo "run: make fmt" >&2
	exit 1
fi
