# shellcheck shell=bash
# lib.sh: sourced by the scripts next to it: where things are kept, progress, failure, and digests as
# names.

set -euo pipefail
shopt -s inherit_errexit

# shellcheck source=hack/progress.sh
source "$(dirname "${BASH_SOURCE[0]}")/../progress.sh"

kind_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kind_cache=${DISEQ_KIND_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/diseq-kind}
mkdir -p "$kind_cache"
kind_cache=$(cd "$kind_cache" && pwd -P)
kind_bin=$kind_cache/bin
logs=$kind_cache/logs
mkdir -p "$kind_bin" "$logs"
# A script that is started from here must find the same cache and the programs in it.
export DISEQ_KIND_CACHE=$kind_cache PATH=$kind_bin:$PATH

# digest: the first 12 digits of the SHA-256 of what is written to it.
digest() { sha256sum | cut -c -12; }

# contents PATH...: name and SHA-256 of each file in these files and folders, in an order that no
# locale changes.
contents() { find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sed "s#$kind_dir/##"; }

# need_space FOLDER GIB WHAT: fail unless FOLDER's file system has GIB free for WHAT.
need_space() {
	local free
	mkdir -p "$1"
	free=$(df --output=avail -B 1M "$1" | tail -n 1)
	((free >= $2 * 1024)) || die "$3 needs $2 GiB free at $1, where $((free / 1024)) GiB are; make room," \
		"or move the cache: DISEQ_KIND_CACHE (Go's own: GOCACHE)"
}

# lock VERB: runs on one cache take turns. The second one names the run that it waits for.
lock() {
	exec 9<>"$kind_cache/lock"
	if ! flock --nonblock 9; then
		say "waiting for $(cat "$kind_cache/lock"), which uses $kind_cache"
		flock 9
	fi
	echo "kind.sh $1, process $$" >"$kind_cache/lock"
}
