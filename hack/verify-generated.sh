#!/usr/bin/env bash
# verify-generated.sh: generate everything again in a copy of the working tree and compare. A dirty
# tree is fine: what counts is that the generated files are those of the sources beside them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/before" "$copy/after"
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
	while IFS= read -r -d '' file; do if [[ -e $file ]]; then printf '%s\0' "$file"; fi; done |
	tar --create --null --files-from=- --file=- |
	tar --extract --directory="$copy/before"
cp -a "$copy/before/." "$copy/after/"

make -C "$copy/after" generate VERSION=verify "TOOLS_BIN=${TOOLS_BIN:?set TOOLS_BIN, or run: make verify-generated}"
if ! (cd "$copy" && diff --recursive --unified --new-file before after >difference); then
	head -c 20000 "$copy/difference" >&2
	printf '\nrun: make generate\n' >&2
	exit 1
fi
