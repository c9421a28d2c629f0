# shellcheck shell=bash
# progress.sh: sourced by scripts that take minutes. They say when each step begins, and while a
# command is quiet how far it is. The caller sets logs, the folder for the output of commands. If
# STARTED is a time, as date +%s prints it, the seconds count from there.

if [[ -n ${STARTED:-} ]]; then SECONDS=$(($(date +%s) - STARTED)); fi

say() { printf '[%4ds] %s\n' "$SECONDS" "$*" >&2; }
die() {
	say "error: $*"
	exit 1
}

# quiet LOG COMMAND...: run COMMAND with its output in a file of $logs, shown only if it fails. Every
# 10 seconds it says how far the command is: what the function $progress makes of the file, or its
# last line.
quiet() {
	# shellcheck disable=SC2154 # the caller sets it
	local log=$logs/$1 status=0 ticker
	shift
	: >"$log"
	# The ticker ends with this descriptor, so that nothing is left of it whatever happens to the
	# script.
	exec {ticker}> >(tick "$log")
	"$@" >"$log" 2>&1 || status=$?
	exec {ticker}>&-
	[[ $status -eq 0 ]] && return
	tail -n 30 "$log" >&2
	die "exit status $status of: $* (all of its output: $log)"
}

tick() {
	while :; do
		read -rt 10 && continue
		[[ $? -gt 128 ]] || return 0
		say "  ... $("${progress:-last_line}" "$1" || true)"
	done
}

last_line() { tail -n 1 "$1" | cut -c -100; }

# go_build NAME MODULE OUT LINKER-FLAGS PACKAGE...: build the programs of these packages, into the
# folder OUT/ or as the file OUT, with one run of go: it compiles a package once for all of them, and
# links while it compiles. NAME names the logs.
go_build() {
	local name=$1 module=$2 out=$3 linker_flags=$4 to_compile to_link
	# The compiler collects garbage less often: a fifth of its time, for half a gigabyte of memory.
	local -x GOGC=${GOGC:-400}
	shift 4
	to_link=$#
	progress=modules_fetched quiet "go-list-$name.log" go -C "$module" list -deps "$@"
	to_compile=$(grep -vc '^go: ' "$logs/go-list-$name.log")
	progress=packages_compiled quiet "go-build-$name.log" \
		go -C "$module" build -v -trimpath -buildvcs=false -ldflags "$linker_flags" -o "$out" "$@"
}

modules_fetched() {
	echo "$(grep -c '^go: downloading' "$1") of at most $(grep -c '^	.* v[0-9]' "$module/go.mod") modules fetched"
}

# packages_compiled: the count is an upper bound because go does not say what it finds in its cache.
packages_compiled() {
	echo "$(grep -vc '^go: ' "$1") of at most $to_compile packages compiled," \
		"$(find "$out" -maxdepth 1 -type f -newer "$logs/go-list-$name.log" 2>/dev/null | wc -l) of $to_link programs linked"
}
