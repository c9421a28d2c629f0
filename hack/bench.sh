#!/usr/bin/env bash
# bench.sh go: the Go benchmarks, their result kept in BENCH_OUT for `make bench-compare`.
# bench.sh operator: reconciles of the operator, with the API server of KUBEBUILDER_ASSETS.
# bench.sh system [FLAG...]: networks of processes: full load, a closed port, single messages, idleness, starts, a killed validator; what
#   a message costs, by part and by file; scaling, overload, history; tables at the end, kept in BENCH_RECORDS. SYSTEM_BENCH picks some
#   by a regular expression. Shorter: -sustained 10s -access 3s -single 10s -idle 5s -dead 5s -most 10s -scaling 3s -overload 10s
#   -profiled 5s -traced 3s -history-messages 100000 -history-turn 3s -behind 5s -tracing-turns 1.
# bench.sh history: the same with HISTORY_MESSAGES of history, ten million if unset, in a network that stays in HISTORY_DIR.
# bench.sh against COMMIT [FLAG...]: DISEQ beside the program of another commit, in turns. Longer: -turns 9. With
#   SYSTEM_BENCH='Tracing$': what traces cost, beside a commit that has none. Longer: -tracing-turns 15.
# bench.sh peers [FLAG...]: CometBFT and JetStream beside DISEQ, with the same load in turns. Shorter: -turns 1 -flood 5s -single 5s.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

machine() {
	echo "machine: $(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
		"$(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), $(go version | cut -d' ' -f3)"
}

go_benchmarks() {
	local out=${BENCH_OUT:-bin/bench.txt}
	mkdir -p "$(dirname "$out")"
	mapfile -t packages < <(git -c safe.directory='*' grep --files-with-matches --untracked -E '^func Benchmark' -- '*_test.go' |
		grep -v '^test/' | xargs -r dirname | sort -u | sed 's|^|./|')
	if [[ ${#packages[@]} -eq 0 ]]; then
		echo "no Go benchmark found" >&2
		exit 1
	fi
	machine
	# One package at a time: two that share the processors measure each other.
	go test -p 1 -run '^$' -bench "${BENCH:-.}" -benchmem -count "${BENCH_COUNT:-1}" -timeout 60m "${packages[@]}" | tee "$out"
}

system_benchmark() {
	: "${DISEQ:?set DISEQ to the binary, or run: make bench}"
	DISEQ=$(realpath "$DISEQ")
	BENCH_RECORDS=$(realpath -m "${BENCH_RECORDS:-bin/bench}")
	export DISEQ BENCH_RECORDS
	local out=${BENCH_SYSTEM_OUT:-bin/bench-system.txt}
	mkdir -p "$(dirname "$out")" "$BENCH_RECORDS"
	# It counts the syncs. Where it is missing, that measurement is left out.
	hack/setup.sh --optional strace=strace setpriv=util-linux || true
	machine
	# Each measurement is made once: it takes as long as it says, however fast the machine is.
	go test -run '^$' -bench "${SYSTEM_BENCH:-.}" -benchtime 1x -timeout "${BENCH_TIMEOUT:-90m}" ./test/bench -args "$@" | tee "$out"
}

history_benchmark() {
	local dir=${HISTORY_DIR:-.history}
	mkdir -p "$dir"
	BENCH_COMMAND='make bench-history' SYSTEM_BENCH='History$' BENCH_TIMEOUT=24h BENCH_SYSTEM_OUT=bin/bench-history.txt system_benchmark \
		-history "$(realpath "$dir")" -history-messages "${HISTORY_MESSAGES:-10000000}" -history-turn "${HISTORY_TURN:-20s}" "$@"
}

against_benchmark() {
	local commit=$1 dir
	dir=$(mktemp -d)
	git -c safe.directory='*' archive "$commit" | tar -x -C "$dir"
	(cd "$dir" && CGO_ENABLED=0 GOGC=400 go build -trimpath -buildvcs=false -o "$dir/base" ./cmd/diseq)
	local status=0
	local command="make bench-against BASE=$commit"
	[[ $# -gt 1 ]] && command+=" BENCH_ARGS='${*:2}'"
	[[ -n ${SYSTEM_BENCH:-} ]] && command="SYSTEM_BENCH='$SYSTEM_BENCH' $command"
	BENCH_AGAINST=$dir/base BENCH_COMMAND=$command SYSTEM_BENCH=${SYSTEM_BENCH:-Against\$} BENCH_SYSTEM_OUT=bin/bench-against.txt system_benchmark "${@:2}" || status=$?
	rm -rf "$dir"
	return "$status"
}

peers_benchmark() {
	local tools=${TOOLS_BIN:-$PWD/bin/tools}
	: "${DISEQ:?set DISEQ to the binary, or run: make bench-peers}"
	mkdir -p "$tools"
	GOGC=400 go -C test/bench/peers build -o "$tools/" . github.com/cometbft/cometbft/cmd/cometbft github.com/nats-io/nats-server/v2
	machine
	"$tools/peers" -diseq "$DISEQ" -cometbft "$tools/cometbft" -nats "$tools/nats-server" -records "${BENCH_RECORDS:-bin/bench}" \
		-machine "$(machine | sed 's/^machine: //')" "$@"
}

operator_benchmark() {
	: "${KUBEBUILDER_ASSETS:?set it to the folder that hack/kind/kind.sh assets names, or run: make bench}"
	machine
	go test -run '^$' -bench . -timeout 30m ./test/integration
}

case ${1:-} in
go) go_benchmarks ;;
operator) operator_benchmark ;;
system) system_benchmark "${@:2}" ;;
history) history_benchmark "${@:2}" ;;
against) against_benchmark "${@:2}" ;;
peers) peers_benchmark "${@:2}" ;;
*)
	echo "usage: bench.sh go | operator | system [FLAG...] | history [FLAG...] | against COMMIT [FLAG...] | peers [FLAG...]" >&2
	exit 2
	;;
esac
