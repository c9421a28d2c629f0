#!/usr/bin/env bash
# phase.sh HEADING COMMAND [ARG...]: run one phase of the build under a one-line heading, and say how
# long it took, how much processor time it used, and which tests it left out because this machine
# lacks something (see hack/skipped). If it fails, the tests that failed and what they said first
# are repeated below its output. The times are appended to the file PHASE_TIMES, if set.
#
# phase.sh --table FILE: the phases in that file, the slowest first.
set -euo pipefail

if [[ $1 == --table ]]; then
	printf '\n%8s %14s\n' seconds 'processor time'
	sort -rn "$2" | awk -F '\t' '{ printf "%8d %14d  %s\n", $1, $2, $3; all += $1; cpu += $2 } END { printf "%8d %14d  all\n", all, cpu }'
	exit
fi

heading=$1
shift
printf '\n==> %s\n' "$heading"
DISEQ_SKIPPED=$(mktemp)
export DISEQ_SKIPPED
output=$(mktemp)
trap 'rm -f "$DISEQ_SKIPPED" "$output"' EXIT
start=$(date +%s)
status=0
if [[ -t 1 ]]; then
	"$@" || status=$?
else
	exec 3> >(exec tee "$output")
	tee=$!
	"$@" >&3 2>&1 3>&- || status=$?
	exec 3>&-
	# A process that the phase left behind may keep the pipe open: it is not waited for.
	for ((i = 0; i < 50; i++)); do
		kill -0 "$tee" 2>/dev/null || break
		sleep 0.1
	done
fi
sed 's/^/not tested: /' "$DISEQ_SKIPPED"
elapsed=$(($(date +%s) - start))
times >"$DISEQ_SKIPPED" # in this shell; its second line is of the children, such as 1m2.345s 0m6.789s
processor=$(awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); all += 60 * t[1] + t[2] } printf "%.0f", all }' "$DISEQ_SKIPPED")
[[ -z ${PHASE_TIMES:-} ]] || printf '%d\t%d\t%s\n' "$elapsed" "$processor" "$heading" >>"$PHASE_TIMES"
if [[ $status -ne 0 ]]; then
	# The logs of a network hide the line that matters.
	awk '/^ *--- FAIL: /{ left = 6 } /: the end of /{ left = 0 } left > 0 { print substr($0, 1, 400); left-- }' "$output" >&2
	printf '<== %s: FAILED after %ds (exit %d)\n' "$heading" "$elapsed" "$status" >&2
	exit "$status"
fi
printf '<== %s: ok, %ds, processor time %ds\n' "$heading" "$elapsed" "$processor"
