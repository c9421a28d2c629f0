#!/usr/bin/env bash
# bench.sh go: the Go benchmarks, their result kept in BENCH_OUT for `make bench-compare`.
# bench.sh operator: reconciles of the operator, with the API server of KUBEBUILDER_ASSETS.
# bench.sh system [FLAG...]: a network of four processes: full load, a closed port, single messages, idleness, starts, a killed
#   validator; a table at the end. SYSTEM_BENCH picks some by a regular expression. Shorter: -sustained 10s -access 3s -single 10s
#   -idle 5s -dead 5s.
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
	export DISEQ
	machine
	# Each measurement is made once: it takes as long as it says, however fast the machine is.
	go test -run '^$' -bench "${SYSTEM_BENCH:-.}" -benchtime 1x -timeout 30m ./test/bench -args "$@"
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
*)
	echo "usage: bench.sh go | bench.sh system [FLAG...]" >&2
	exit 2
	;;
esac
