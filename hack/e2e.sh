#!/usr/bin/env bash
# e2e.sh [ARG...]: run test/e2e on a kind cluster of its own, made before and taken down after; ARGs
# are for go test, such as -run TestWhatIsTaken or -bench . The images are built from this tree.
#
#   E2E_KEEP=1       leave the cluster, and the namespaces of failed tests: the next run takes it as it is
#   E2E_NAME         the cluster's name, e2e
#   USE_CONTEXT=1    run on the cluster that KUBECONFIG names instead, which has to have the images: test/e2e/doc.go names the variables
#   HELM             the helm binary, bin/tools/helm
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export E2E_HELM=${HELM:-$PWD/bin/tools/helm}
export E2E_PLUGIN=$PWD/bin/kubectl-diseq
go build -trimpath -o "$E2E_PLUGIN" ./cmd/kubectl-diseq
# -v: a suite of minutes has to show where it is.
tests=(go test -count=1 -timeout 60m -v "$@" ./test/e2e/)
if [[ ${USE_CONTEXT:-} == 1 ]]; then
	export KUBECONFIG=${KUBECONFIG:-$HOME/.kube/config}
	exec "${tests[@]}"
fi

name=${E2E_NAME:-e2e}
kind() { hack/kind/kind.sh "$1" --name "$name" "${@:2}"; }

down() {
	if [[ ${E2E_KEEP:-} == 1 ]]; then
		echo "e2e.sh: cluster $name is kept (E2E_KEEP=1): hack/kind/kind.sh run --name $name -- kubectl get dsq -A" >&2
	else
		kind down
	fi
}
trap down EXIT

hack/image/build.sh --out bin/images
# An update needs two images; that the second is the first under another name is all the same to the
# operator.
TAG=dev2 hack/image/build.sh --out bin/images/next node
kind up
kind load bin/images/diseq.tar bin/images/diseq-operator.tar bin/images/next/diseq.tar

KUBECONFIG=$(kind kubeconfig)
export KUBECONFIG
# Modules are fetched here and the tests run where the cluster is: there may be no way from there to
# anything else.
"${tests[@]:0:2}" -exec "$PWD/hack/kind/kind.sh run --name $name --" "${tests[@]:2}"
