#!/usr/bin/env bash
# kind.sh VERB [ARGUMENT...]: clusters to try things on (https://kind.sigs.k8s.io), also on a machine
# without a Docker engine and without a registry; see README.md. Every verb may be repeated, and none
# needs another one first.
#
#   up [--name NAME] [--workers N] [--no-wait]
#                                    make a cluster of one control plane and three workers; starts an engine if none answers
#   wait [--name NAME]               wait until the nodes, DNS and storage are ready, which `up --no-wait` does not
#   down [--name NAME]               remove the cluster; with the last one, the engine if it is ours
#   load [--name NAME] ARCHIVE...    load images, as docker save writes them, into the engine and every node
#   kubeconfig [--name NAME]         print the path of the kubeconfig
#   run [--name NAME] -- COMMAND...  run COMMAND where it can reach the cluster, with kubectl and kind in PATH, DOCKER_HOST set if
#                                    the engine is ours, and KUBECONFIG set to the cluster's unless it is set already
#   status                           print the engine and the clusters that run
#   prepare                          make the engine and the node image, so that the next `up` takes a minute
#   engine up|down [--purge]         start or stop the engine alone; --purge forgets its images and clusters
#   assets                           build kube-apiserver, etcd and kubectl, and print their folder; needs only Go
#   programs NAME...                 build single programs, such as kubectl, into the cache's bin/
#
# NAME is "diseq" unless given. Progress goes to standard error. Environment variables:
#
#   DISEQ_KIND_CACHE    the folder that holds everything; default diseq-kind in XDG_CACHE_HOME or ~/.cache
#   DISEQ_KIND_ENGINE   own: start an engine even if another one answers
#   DISEQ_KIND_IMAGE    the node image; default kindest/node if it can be pulled, else one that is built here
#   DISEQ_KIND_MIRROR   the Debian mirror for that build; default that of debootstrap
set -euo pipefail

if [[ $(uname -s) != Linux ]]; then
	echo "kind.sh needs Linux; elsewhere create a cluster with https://kind.sigs.k8s.io and use its kubeconfig" >&2
	exit 1
fi
usage() {
	awk 'NR > 1 && /^#/ { print substr($0, 3); next } NR > 1 { exit }' "${BASH_SOURCE[0]}" >&2
	exit "$1"
}
verb=${1:-}
case $verb in
up | down | load | wait | kubeconfig | run | status | prepare | engine | assets | programs) shift ;;
help | -h | --help) usage 0 ;;
*) usage 1 ;;
esac

# shellcheck source=hack/kind/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
trap 'exit 130' INT
trap 'exit 143' TERM

cluster=diseq workers=3 workers_given='' no_wait=''
while [[ $# -gt 0 ]]; do
	case $verb:$1 in
	up:--name | down:--name | load:--name | wait:--name | kubeconfig:--name | run:--name)
		cluster=${2:-}
		[[ $cluster =~ ^[a-z0-9][a-z0-9-]{0,30}$ ]] ||
			die "--name '$cluster': up to 31 small letters, digits and dashes, a letter or digit first"
		shift 2
		;;
	up:--workers)
		workers=${2:-} workers_given=1
		[[ $workers =~ ^[0-9]{1,2}$ ]] || die "--workers '$workers': a number from 0 to 99"
		shift 2
		;;
	up:--no-wait)
		no_wait=1
		shift
		;;
	run:--)
		shift
		break
		;;
	up:* | down:* | wait:* | kubeconfig:* | status:* | prepare:* | assets:*) die "$verb takes no argument '$1'; kind.sh help lists what it takes" ;;
	load:-*) die "load takes no flag '$1'; kind.sh help lists what it takes" ;;
	*) break ;;
	esac
done

# shellcheck source=hack/kind/engine.sh
source "$kind_dir/engine.sh"
# shellcheck source=hack/kind/cluster.sh
source "$kind_dir/cluster.sh"

# These build nothing: they need neither Go nor the lock.
case $verb in
kubeconfig)
	echo "$kubeconfig"
	exit
	;;
status)
	echo "engine: $(engine)"
	[[ $(engine) != none ]] || exit 0
	for folder in "$kind_cache"/clusters/*/; do
		[[ -e $folder/kubeconfig ]] || continue
		cluster=${folder%/} cluster=${cluster##*/}
		echo "cluster: $cluster, $(cluster_nodes --filter status=running | wc -l) nodes running, kubeconfig ${folder}kubeconfig"
	done
	exit
	;;
run)
	[[ $# -gt 0 ]] || die 'run: name a command, such as: kind.sh run -- kubectl get nodes'
	if [[ -z ${KUBECONFIG:-} && -e $kubeconfig ]]; then export KUBECONFIG=$kubeconfig; fi
	case $(engine) in
	own) DOCKER_HOST=unix://$engine_socket exec nsenter --net="$engine_netns" -- "$@" ;;
	existing) exec "$@" ;;
	none) die 'run: no engine is up; run kind.sh up' ;;
	esac
	;;
esac

# shellcheck source=hack/kind/binaries.sh
source "$kind_dir/binaries.sh"
# shellcheck source=hack/kind/node-image.sh
source "$kind_dir/node-image.sh"

lock "$verb"
case $verb in
up) cluster_up ;;
prepare) prepare ;;
down) cluster_down ;;
load) cluster_load "$@" ;;
wait)
	[[ $(engine) != none && -e $cluster_dir/complete ]] || die "wait: there is no cluster $cluster; run kind.sh up --name $cluster"
	build kubectl
	cluster_wait
	;;
assets) assets ;;
programs) build "$@" ;;
engine)
	case ${1:-} in
	up) engine_up ;;
	down) engine_down "${@:2}" ;;
	*) die "engine '${1:-}': up or down" ;;
	esac
	;;
esac
