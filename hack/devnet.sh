#!/usr/bin/env bash
# devnet.sh: sourced by the scripts that need a running network. DISEQ is the binary.
#
#   devnet_start DIR [FLAG...]   start four nodes in DIR; returns when the network is ready, with devnet_urls set
#   devnet_stop                  end it; fails if it does not end cleanly; safe to call twice
#   devnet_cleanup_on_exit DIR   however the script ends: stop the network, remove DIR

devnet_pid=
devnet_urls=()
readonly devnet_size=4

# free_ports: the first of devnet_size consecutive ports on which nothing listens, below the range from which the kernel
# hands out ports of its own accord.
free_ports() {
	local base offset
	for _ in {1..50}; do
		base=$((20000 + RANDOM % 12000))
		for ((offset = 0; offset < devnet_size; offset++)); do
			if (exec 3<>"/dev/tcp/127.0.0.1/$((base + offset))") 2>/dev/null; then
				continue 2
			fi
		done
		echo "$base"
		return
	done
	echo "no $devnet_size consecutive free ports found" >&2
	return 1
}

devnet_start() {
	local dir=$1 base log=$1/devnet.log
	shift
	base=$(free_ports)
	mkdir -p "$dir"
	"$DISEQ" devnet --validators "$devnet_size" --threshold 3 --dir "$dir" --http "127.0.0.1:$base" "$@" >"$log" 2>&1 &
	devnet_pid=$!
	for ((i = 0; i < devnet_size; i++)); do
		devnet_urls+=("http://127.0.0.1:$((base + i))")
	done
	for _ in {1..600}; do
		grep -q '^ready' "$log" && return 0
		if ! kill -0 "$devnet_pid" 2>/dev/null; then
			echo "the network ended before it was ready:" >&2
			tail -n 50 "$log" >&2
			return 1
		fi
		sleep 0.2
	done
	echo "the network was not ready within two minutes:" >&2
	tail -n 50 "$log" >&2
	return 1
}

devnet_stop() {
	[[ -n $devnet_pid ]] || return 0
	local pid=$devnet_pid
	devnet_pid=
	kill -TERM "$pid" 2>/dev/null || true
	for _ in {1..150}; do
		if ! kill -0 "$pid" 2>/dev/null; then
			wait "$pid"
			return
		fi
		sleep 0.2
	done
	echo "the network did not stop within 30 s of SIGTERM" >&2
	kill -KILL "$pid"
	return 1
}

devnet_cleanup_on_exit() {
	devnet_dir=$1
	trap devnet_cleanup EXIT
	trap 'exit 130' INT TERM
}

devnet_cleanup() {
	local status=$?
	trap - EXIT
	devnet_stop || status=1
	rm -rf "$devnet_dir"
	exit "$status"
}
