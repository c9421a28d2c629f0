#!/usr/bin/env bash
# bench.sh go: the Go benchmarks, their result kept in BENCH_OUT for `make bench-compare`.
# bench.sh system: a network of four nodes under load, with throughput and submit-to-final latency as `diseq bench` sees them.
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
	# shellcheck source=hack/devnet.sh
	source hack/devnet.sh
	dir=$(mktemp -d)
	devnet_cleanup_on_exit "$dir"
	machine
	devnet_start "$dir"
	"$DISEQ" bench -u "$(
		IFS=,
		echo "${devnet_urls[*]}"
	)"
}

case ${1:-} in
go) go_benchmarks ;;
system) system_benchmark ;;
*)
	echo "usage: bench.sh go|system" >&2
	exit 2
	;;
esac
