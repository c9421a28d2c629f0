#!/usr/bin/env bash
if [[ $(uname -s) != Linux ]]; then
	echo "kind.sh: this needs Linux; elsewhere create a cluster with https://kind.sigs.k8s.io and use its kubeconfig" >&2
	exit 1
fi
# shellcheck source=hack/kind/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
trap 'exit 130' INT
trap 'exit 143' TERM
verb=${1:-}
shift || true
# shellcheck source=hack/kind/binaries.sh
source "$kind_dir/binaries.sh"
case $verb in
assets)
	lock assets
	assets
	;;
esac
