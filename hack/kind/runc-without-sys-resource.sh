#!/usr/bin/env bash
# runc-without-sys-resource.sh: the OCI runtime of an engine that lacks CAP_SYS_RESOURCE. It takes
# out of each container (config.json) and each exec (process.json) what only a process with that
# capability may set; then it is runc.
set -euo pipefail

bundle='' process='' before=''
for argument in "$@"; do
	case $before in
	--bundle | -b) bundle=$argument ;;
	--process | -p) process=$argument ;;
	esac
	before=$argument
done

drop='del(.rlimits, .oomScoreAdj)
	| if .capabilities then .capabilities |= map_values(map(select(. != "CAP_SYS_RESOURCE"))) else . end'

# rewrite FILE FILTER: in place, for the caller may hold the file open, or own its folder.
rewrite() {
	local content
	content=$(jq -c "$2" "$1")
	printf '%s\n' "$content" >"$1"
}
if [[ -f $bundle/config.json ]]; then
	rewrite "$bundle/config.json" "if .process then .process |= ($drop) else . end"
fi
if [[ -f $process ]]; then
	rewrite "$process" "$drop"
fi
exec runc "$@"
