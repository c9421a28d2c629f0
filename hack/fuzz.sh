#!/usr/bin/env bash
# fuzz.sh TIME: run each fuzz target of the module for TIME (the fuzzer's notion: 5s, or 1000x for a count).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

time=${1:?how long for each target}
output=$(mktemp)
trap 'rm -f "$output"' EXIT

mapfile -t packages < <(git -c safe.directory='*' grep --files-with-matches --untracked -E '^func Fuzz' -- '*_test.go' |
	xargs -r dirname | sort -u)
if [[ ${#packages[@]} -eq 0 ]]; then
	echo "no fuzz target found" >&2
	exit 1
fi

fuzz() {
	go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 10x -parallel "$(nproc)" -timeout 30m "./$1" >"$output" 2>&1
}

count=0
for package in "${packages[@]}"; do
	mapfile -t targets < <(go test -list '^Fuzz' "./$package" | grep '^Fuzz')
	for target in "${targets[@]}"; do
		# The fuzzer at times reports its own deadline as a failure; that one finds no input, and is tried again.
		attempt=1
		until fuzz "$package" "$target"; do
			if [[ $attempt -eq 5 ]] || ! grep -q 'context deadline exceeded' "$output" || grep -q 'Failing input written' "$output"; then
				cat "$output" >&2
				exit 1
			fi
			echo "$package $target: the fuzzer tripped over its own deadline, once more"
			attempt=$((attempt + 1))
		done
		if grep -q 'no fuzz tests to fuzz' "$output"; then
			cat "$output" >&2
			exit 1
		fi
		count=$((count + 1))
		printf '%-40s %s\n' "$package $target" "$(grep -oE 'execs: [0-9]+' "$output" | tail -n 1)"
	done
done
echo "$count fuzz targets, $time each"
