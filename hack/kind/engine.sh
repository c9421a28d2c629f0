# shellcheck shell=bash
# shellcheck disable=SC2154 # what lib.sh sets
# engine.sh: sourced by kind.sh. A Docker engine for the nodes: the one that answers already, or else
# one of our own, in a network namespace that has a loopback device and no way out.

engine_dir=$kind_cache/engine
engine_socket=$engine_dir/docker.sock
engine_netns=$engine_dir/netns
engine_cgroup=/diseq-kind-$(printf %s "$engine_dir" | digest)
readonly inotify_instances=/proc/sys/fs/inotify/max_user_instances

# alive NAME: the daemon of that name that we started still runs.
alive() {
	local pid
	pid=$(cat "$engine_dir/$1.pid" 2>/dev/null) && [[ -n $pid ]] || return 1
	# Another process may have got the number since, and a zombie has no program.
	[[ $(readlink "/proc/$pid/exe") == */"$1" ]]
}

# engine: which one is up: own, existing or none.
engine() {
	if alive dockerd; then
		echo own
	elif [[ ${DISEQ_KIND_ENGINE:-} != own ]] && command -v docker >/dev/null &&
		[[ -n $(timeout 20 docker info --format '{{.ServerVersion}}' 2>/dev/null) ]]; then
		echo existing
	else
		echo none
	fi
}

# in_engine COMMAND...: run it where the engine answers and the networks of its containers can be
# reached.
in_engine() {
	if alive dockerd; then
		# The namespace has no way to a proxy, and kind would hand its name on to the nodes.
		env -u HTTP_PROXY -u HTTPS_PROXY -u http_proxy -u https_proxy -u ALL_PROXY -u all_proxy \
			DOCKER_HOST="unix://$engine_socket" nsenter --net="$engine_netns" -- "$@"
	else
		"$@"
	fi
}

engine_up() {
	case ${DISEQ_KIND_ENGINE:-} in
	'' | own) ;;
	*) die "DISEQ_KIND_ENGINE is '$DISEQ_KIND_ENGINE'; it may be 'own', or empty for the engine that answers" ;;
	esac
	case $(engine) in
	own)
		wait_for_daemon dockerd docker version
		say 'engine: our own, running already'
		return
		;;
	existing)
		say 'engine: using the one that answers'
		return
		;;
	esac
	check_machine
	engine_packages
	stop_daemon containerd 10 # its dockerd has crashed
	engine_clean
	mkdir -p "$engine_dir"

	say 'engine: a network namespace with a loopback device and nothing else'
	: >"$engine_netns"
	unshare --net="$engine_netns" true
	nsenter --net="$engine_netns" ip link set lo up

	if [[ $(cat "$inotify_instances") -lt 1024 ]]; then
		cat "$inotify_instances" >"$engine_dir/inotify"
		echo 1024 >"$inotify_instances" || say "warning: cannot raise $inotify_instances; four nodes need more than 128"
	fi

	engine_settings
	# Not `ip netns exec`: it mounts a new /sys, without the cgroups below it. Neither may hold the
	# lock of this script.
	nsenter --net="$engine_netns" setsid containerd --config "$engine_dir/containerd.toml" \
		>"$engine_dir/containerd.log" 2>&1 </dev/null 9>&- &
	echo $! >"$engine_dir/containerd.pid"
	wait_for_daemon containerd test -S "$engine_dir/containerd.sock"
	nsenter --net="$engine_netns" setsid dockerd --config-file "$engine_dir/daemon.json" \
		>"$engine_dir/dockerd.log" 2>&1 </dev/null 9>&- &
	wait_for_daemon dockerd docker version
	say 'engine: our own is running'
}

# check_machine: say what is missing before anything is changed.
check_machine() {
	local capabilities controller missing=()
	[[ $(id -u) -eq 0 ]] ||
		die "no Docker engine answers (docker info), and starting one needs root: start Docker, or run this as root"
	capabilities=0x$(awk '/^CapEff/ { print $2 }' /proc/self/status)
	((capabilities >> 21 & 1 && capabilities >> 12 & 1)) ||
		die "this root has neither CAP_SYS_ADMIN nor CAP_NET_ADMIN: run this on a machine, or in a container with --privileged"
	if [[ ! -e /sys/fs/cgroup/cgroup.controllers ]]; then
		for controller in cpu cpuset memory devices pids; do
			[[ -d /sys/fs/cgroup/$controller ]] || missing+=("$controller")
		done
		[[ ${#missing[@]} -eq 0 ]] ||
			die "no cgroups at /sys/fs/cgroup (${missing[*]}): mount them, or run this on a machine that has them"
	fi
	[[ ${#engine_dir} -le 80 && $engine_dir != *[[:space:]]* ]] ||
		die "$engine_dir: socket paths end at 107 characters, this one may have 80 and no space; set DISEQ_KIND_CACHE"
	case $(stat -f -c %T "$kind_cache") in
	overlayfs | nfs) die "$kind_cache is on $(stat -f -c %T "$kind_cache"), which holds no container: set DISEQ_KIND_CACHE to a folder on a disk" ;;
	esac
}

engine_packages() {
	local policy=/usr/sbin/policy-rc.d mark='# made by diseq-kind'
	# Debian's docker.io starts an engine of the machine's own, unless this file forbids it.
	if [[ ! -e $policy ]] || grep -qxF "$mark" "$policy"; then
		printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
		chmod +x "$policy"
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	install_packages dockerd=docker.io containerd=containerd runc=runc ip=iproute2 iptables=iptables jq=jq
	# From Debian 13 on, the client is a package of its own.
	command -v docker >/dev/null || install_packages docker=docker-cli
	if grep -qsxF "$mark" "$policy"; then rm -f "$policy"; fi
	trap - EXIT
}

# install_packages COMMAND=PACKAGE...: with setup.sh, which leaves out the commands that exist.
install_packages() {
	local pair missing=()
	for pair in "$@"; do
		command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
	done
	[[ ${#missing[@]} -eq 0 ]] && return
	say "installing ${missing[*]}"
	quiet packages.log "$kind_dir/../setup.sh" "$@"
}

engine_settings() {
	local runtime=runc runtimes='{}' bounding
	bounding=0x$(awk '/^CapBnd/ { print $2 }' /proc/self/status)
	if ((!(bounding >> 24 & 1))); then
		say 'engine: no CAP_SYS_RESOURCE here, so runc gets a wrapper'
		runtime=without-sys-resource
		runtimes=$(jq -n --arg path "$kind_dir/runc-without-sys-resource.sh" '{"without-sys-resource": {path: $path}}')
	fi
	# A containerd of its own: one of the machine's would put the containers into another network
	# namespace.
	cat >"$engine_dir/containerd.toml" <<-TOML
		version = 2
		root = "$engine_dir/containerd/root"
		state = "$engine_dir/containerd/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		  address = "$engine_dir/containerd.sock"
	TOML
	# The cgroup driver is named because that of systemd takes no parent outside its own slices.
	jq -n --arg dir "$engine_dir" --arg parent "$engine_cgroup" --arg runtime "$runtime" --argjson runtimes "$runtimes" '{
		"data-root": "\($dir)/data", "exec-root": "\($dir)/exec", pidfile: "\($dir)/dockerd.pid",
		hosts: ["unix://\($dir)/docker.sock"], containerd: "\($dir)/containerd.sock",
		bip: "172.30.0.1/24", "default-address-pools": [{base: "172.31.0.0/16", size: 20}],
		"exec-opts": ["native.cgroupdriver=cgroupfs"], "cgroup-parent": $parent,
		runtimes: $runtimes, "default-runtime": $runtime
	}' >"$engine_dir/daemon.json"
}

# wait_for_daemon NAME COMMAND...: until COMMAND succeeds, for at most a minute.
wait_for_daemon() {
	local name=$1 end=$((SECONDS + 60))
	shift
	while ! DOCKER_HOST=unix://$engine_socket "$@" >/dev/null 2>&1; do
		if ((SECONDS > end)); then
			tail -n 20 "$engine_dir/$name.log" >&2
			die "$name did not answer within a minute (all of its output: $engine_dir/$name.log)"
		fi
		sleep 0.2
	done
}

# stop_daemon NAME SECONDS
stop_daemon() {
	local pid end=$((SECONDS + $2))
	alive "$1" || return 0
	pid=$(cat "$engine_dir/$1.pid")
	kill "$pid"
	while alive "$1"; do
		if ((SECONDS > end)); then
			say "warning: $1 (process $pid) did not end within $2 s of SIGTERM, killing it"
			kill -9 "$pid"
			return
		fi
		sleep 0.1
	done
}

# engine_clean: remove the leftovers of an engine of ours that may have been killed: shims, containers,
# mounts, cgroups, the namespace.
engine_clean() {
	local path cgroup
	for path in /proc/[0-9]*; do
		# A shim has the socket of its containerd among its arguments.
		if { tr '\0' '\n' <"$path/cmdline"; } 2>/dev/null | grep -qxF "$engine_dir/containerd.sock"; then
			kill -9 "${path#/proc/}" 2>/dev/null || true
		fi
	done
	for cgroup in /sys/fs/cgroup"$engine_cgroup" /sys/fs/cgroup/*"$engine_cgroup"; do
		[[ -d $cgroup ]] || continue
		find "$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | xargs -r kill -9 2>/dev/null || true
	done
	awk -v dir="$engine_dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac |
		while IFS= read -r path; do umount -l "$path" || true; done
	for cgroup in /sys/fs/cgroup"$engine_cgroup" /sys/fs/cgroup/*"$engine_cgroup"; do
		[[ -d $cgroup ]] || continue
		for _ in {1..10}; do # processes take a moment to leave
			find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break
			sleep 0.2
		done
	done
	rm -f "$engine_dir"/{netns,docker.sock,dockerd.pid,containerd.pid,containerd.sock,containerd.sock.ttrpc}
	rm -rf "$engine_dir/exec" "$engine_dir/containerd/state"
}

# engine_down [--purge]: stop our own engine. Its clusters start again with it, unless --purge
# forgets them and all images.
engine_down() {
	[[ $# -eq 0 || $* == --purge ]] || die "engine down takes no argument '$*'; it takes --purge"
	if [[ -d $engine_dir ]]; then
		stop_daemon dockerd 60
		stop_daemon containerd 10
		engine_clean
		if [[ -f $engine_dir/inotify ]]; then
			cat "$engine_dir/inotify" >"$inotify_instances" || say "warning: cannot put back $inotify_instances"
			rm -f "$engine_dir/inotify"
		fi
		if [[ ${1:-} == --purge ]]; then
			rm -rf "$engine_dir" "$kind_cache/clusters"
		fi
		say 'engine: stopped'
	else
		say 'engine: none of ours runs'
	fi
}
