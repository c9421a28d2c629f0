#!/usr/bin/env bash
# phase.sh HEADING COMMAND [ARG...]: run one phase of the build under a one-line heading and say how
# long it took, and which tests were left out because this machine lacks something (see
# hack/skipped).
set -euo pipefail

heading=$1
shift
printf '\n==> %s\n' "$heading"
DISEQ_SKIPPED=$(mktemp)
export DISEQ_SKIPPED
trap 'rm -f "$DISEQ_SKIPPED"' EXIT
start=$(date +%s)
status=0
"$@" || status=$?
sed 's/^/not tested: /' "$DISEQ_SKIPPED"
elapsed=$(($(date +%s) - start))
if [[ $status -ne 0 ]]; then
	printf '<== %s: FAILED after %ds (exit %d)\n' "$heading" "$elapsed" "$status" >&2
	exit "$status"
fi
printf '<== %s: ok, %ds\n' "$heading" "$elapsed"
