#!/usr/bin/env bash
# phase.sh HEADING COMMAND [ARG...]: run one phase of the build under a one-line heading and say how long it took.
set -euo pipefail

heading=$1
shift
printf '\n==> %s\n' "$heading"
start=$(date +%s)
status=0
"$@" || status=$?
elapsed=$(($(date +%s) - start))
if [[ $status -ne 0 ]]; then
	printf '<== %s: FAILED after %ds (exit %d)\n' "$heading" "$elapsed" "$status" >&2
	exit "$status"
fi
printf '<== %s: ok, %ds\n' "$heading" "$elapsed"
