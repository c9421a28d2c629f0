#!/usr/bin/env bash
# demo.sh [up|down]: first four validators as processes on this machine, while a cluster is built in
# the background; then the same on Kubernetes: the operator, a network by one kubectl apply, messages
# through its Service, a receipt verified with nothing but the genesis document, a forged receipt
# refused. The cluster and the network stay, to be tried; `up` again continues with them, `down`
# removes them.
#
#   USE_CONTEXT=1                 use the current context of kubectl instead of a cluster made by hack/kind
#   IMAGE, OPERATOR_IMAGE         the images there, where its workers can pull them: REPOSITORY[:TAG][@DIGEST]
#   VERSION                       what bin/diseq calls itself
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly cluster=diseq namespace=diseq-demo operator_namespace=diseq-system release=diseq-operator
readonly sample=config/samples/v1alpha1_diseqnetwork.yaml
use_context=${USE_CONTEXT:-}
# Every script that is started from here shows the time since the demonstration began.
export STARTED=${STARTED:-$(date +%s)}
export CGO_ENABLED=0 DISEQ=$PWD/bin/diseq HELM=$PWD/bin/tools/helm
logs=$PWD/bin/logs
mkdir -p "$logs"
# shellcheck source=hack/progress.sh
source hack/progress.sh

step() { printf '\n[%4ds] %s\n' "$SECONDS" "$*"; }
fail() {
	echo "demo: $*" >&2
	exit 1
}
k() { kubectl --namespace "$namespace" "$@"; }

# image_values NAME IMAGE: the arguments of helm that set the chart's value NAME to IMAGE.
image_values() {
	local name=$1 image=$2 digest='' tag=''
	if [[ $image == *@* ]]; then digest=${image##*@} image=${image%@*}; fi
	if [[ ${image##*/} == *:* ]]; then tag=${image##*:} image=${image%:*}; fi
	printf '%s\n' --set-string "$name.repository=$image" --set-string "$name.tag=$tag" --set-string "$name.digest=$digest"
}

install_operator() {
	local values=() build=''
	mapfile -t values < <(image_values image "${OPERATOR_IMAGE:-diseq-operator:dev}" && image_values nodeImage "${IMAGE:-diseq:dev}")
	# A new image under the old tag changes nothing in the Deployment by itself.
	[[ -n $use_context ]] || build=$(sha256sum bin/images/diseq-operator.tar | cut -c -16)
	"$HELM" upgrade --install "$release" charts/diseq-operator --namespace "$operator_namespace" --create-namespace \
		"${values[@]}" --set-string "podAnnotations.diseq\.io/build=$build" --wait --timeout 3m >/dev/null ||
		fail "the operator does not run; see: kubectl --namespace $operator_namespace describe pods"
	kubectl --namespace "$operator_namespace" get deployments
}

# standing prints what can be said of the network in one line: its condition Available, and how many
# pods are ready.
standing() {
	local condition ready
	condition=$(k get "$network" -o 'jsonpath={range .status.conditions[?(@.type=="Available")]}Available={.status} {.reason}: {.message}{end}') &&
		ready=$(k get pods --selector "diseq.io/network=$name" \
			-o 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}') || return
	printf '%s (pods: %d, ready: %d)\n' "${condition:-no condition yet}" "$(grep -c . <<<"$ready")" "$(grep -c True <<<"$ready")"
}

# complete says whether the network is available with all of its validators.
complete() {
	local answer
	answer=$(k get "$network" -o 'jsonpath={.status.conditions[?(@.type=="Available")].status} {.spec.validators} {.status.readyValidators}') &&
		[[ $answer =~ ^True\ ([0-9]+)\ ([0-9]+)$ && ${BASH_REMATCH[1]} == "${BASH_REMATCH[2]}" ]]
}

# await_network shows what changes until the network is complete.
# await_height waits until the status of the network has a height: the operator looks every few seconds.
await_height() {
	for _ in {1..60}; do
		[[ $(k get dsq "$name" -o jsonpath='{.status.height}') == 0 ]] || return 0
		sleep 0.5
	done
	fail "the status of $name still has height 0 after 30 s"
}

await_network() {
	local deadline=$(($(date +%s) + 300)) line shown=''
	while true; do
		line=$(standing 2>&1) || line="no answer: $line"
		[[ $line == "$shown" ]] || printf '[%4ds] %s\n' "$SECONDS" "$line"
		shown=$line
		! complete || return 0
		[[ $(date +%s) -lt $deadline ]] || break
		sleep 1
	done
	k describe "$network" >&2 || true
	k get pods,persistentvolumeclaims >&2 || true
	kubectl --namespace "$operator_namespace" logs --selector app.kubernetes.io/name=diseq-operator --prefix --tail=30 >&2 || true
	fail 'not available within five minutes; the above says what is waited for, docs/operations.md what to do'
}

# forward reaches the clients' Service on a port of this machine that is free, and sets url.
forward() {
	local port=
	kubectl --namespace "$namespace" port-forward "service/$name" :8080 >"$dir/forward.log" 2>&1 &
	forward_pid=$!
	for _ in {1..100}; do
		port=$(sed -nE 's/^Forwarding from 127\.0\.0\.1:([0-9]+) .*/\1/p' "$dir/forward.log")
		[[ -z $port ]] || break
		kill -0 "$forward_pid" 2>/dev/null || fail "kubectl port-forward ended: $(cat "$dir/forward.log")"
		sleep 0.2
	done
	[[ -n $port ]] || fail "kubectl port-forward does not listen after 20 s: $(cat "$dir/forward.log")"
	url=http://127.0.0.1:$port
	echo "service/$name at $url"
}

cleanup() {
	[[ -z $forward_pid ]] || kill "$forward_pid" 2>/dev/null || true
	rm -rf "$dir"
}

# sequence submits, and verifies what comes back.
sequence() {
	# The time makes each run's messages new: equal bytes are one message for ever.
	for i in 1 2 3; do
		echo "demo message $i of $(date +%s.%N)"
	done >"$dir/messages"
	step 'submitting 3 messages through the Service and waiting until they are final'
	forward
	timeout 90 "$DISEQ" submit --url "$url" --lines --wait "$dir/messages" >"$dir/receipts" || fail 'submit failed'
	timeout 60 "$DISEQ" submit --url "$url" --lines "$dir/messages" >"$dir/ids" || fail 'submit failed'
	[[ $(wc -l <"$dir/ids") -eq 3 ]] || fail "expected 3 ids, one a line: $(cat "$dir/ids")"
	paste -d ' ' "$dir/ids" "$dir/messages"

	step 'fetching the receipt of the first, and the genesis document from its ConfigMap'
	timeout 60 "$DISEQ" get --url "$url" receipt "$(head -n 1 "$dir/ids")" >"$dir/receipt.json" || fail 'no receipt'
	k get configmap "$name-genesis" -o 'jsonpath={.data.genesis\.json}' >"$dir/genesis.json"
	printf 'a receipt of %d bytes, a genesis document of %d\n' "$(wc -c <"$dir/receipt.json")" "$(wc -c <"$dir/genesis.json")"

	step 'verifying the receipt offline, with the genesis document alone'
	"$DISEQ" verify "$dir/receipt.json" --genesis "$dir/genesis.json" || fail 'a true receipt was refused'

	step 'changing one letter of the message in that receipt'
	sed -E 's/"data": *"Z/"data":"Y/' "$dir/receipt.json" >"$dir/forged.json"
	! cmp -s "$dir/receipt.json" "$dir/forged.json" || fail 'the forgery is no different from the original'
	if "$DISEQ" verify "$dir/forged.json" --genesis "$dir/genesis.json" >"$dir/verdict" 2>&1; then
		fail 'a forged receipt was accepted'
	fi
	echo "refused, as it must be: $(tail -n 1 "$dir/verdict")"
}

what_next() {
	local down='make demo-down' browser=''
	[[ -z $use_context ]] || down="USE_CONTEXT=1 $down"
	# The cluster may have a network of its own, which the browsers of other shells do not reach.
	[[ -n $use_context ]] || browser=' that is started in that shell'
	printf '\nThe network stays. Things to try'
	if [[ -z $use_context ]]; then
		printf ', in a shell where the cluster can be reached:\n\n  hack/kind/kind.sh run --name %s -- bash\n' "$cluster"
	else
		printf ':\n'
	fi
	cat <<END

  kubectl config set-context --current --namespace=$namespace
  kubectl get dsq --watch                                  # its height is at most 10 s old
  kubectl describe dsq $name                                # conditions, members, events
  kubectl port-forward service/$name 18080:8080 &
  echo hello \$(date) | bin/diseq submit --wait --url http://127.0.0.1:18080 -
  bin/diseq tail --from 1 --url http://127.0.0.1:18080
  kubectl delete pod $name-v1-0; kubectl get pods --watch   # it comes back and catches up; the others go on
  kubectl scale dsq $name --replicas=7                      # three more validators, by a block of the chain, in about 20 s
  kubectl wait dsq $name --for=condition=MembershipChanging=False --timeout=3m
  kubectl scale dsq $name --replicas=3                      # four of them leave and are stopped; their volumes are kept
  kubectl patch dsq $name --type=merge --patch '{"spec":{"retire":["$name-v1"]}}'   # another validator takes the place of this one
  kubectl annotate dsq $name diseq.io/restart="\$(date +%s)" --overwrite   # all validators, one at a time

  $down

The explorer shows the network in a browser$browser:

  kubectl --namespace $namespace port-forward service/$name 18080:8080   # then open http://127.0.0.1:18080/
END
}

# demonstrate is everything but the cluster and its images.
demonstrate() {
	command -v kubectl >/dev/null || fail 'kubectl is not in PATH: https://kubernetes.io/docs/tasks/tools'
	dir=$(mktemp -d) forward_pid=
	trap cleanup EXIT
	trap 'exit 130' INT TERM

	step 'installing the operator with its Helm chart'
	install_operator

	step "applying $sample in a namespace of restricted pods"
	kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
	kubectl label namespace "$namespace" --overwrite pod-security.kubernetes.io/enforce=restricted >/dev/null
	network=$(sed "s|^  image: .*|  image: ${IMAGE:-diseq:dev}|" "$sample" | k apply -f - -o name)
	name=${network#*/}
	echo "$network"
	await_network

	sequence

	step 'kubectl get dsq, once the operator has seen the new height'
	await_height
	k get "$network"
	echo
	k get pods
	what_next
}

remove() {
	if [[ -z $use_context ]]; then
		exec hack/kind/kind.sh down --name "$cluster"
	fi
	build_helm
	echo "removing the namespace $namespace, with its network's keys and volumes, and the operator"
	kubectl delete namespace "$namespace" --ignore-not-found
	"$HELM" uninstall "$release" --namespace "$operator_namespace" --ignore-not-found --wait
	kubectl delete namespace "$operator_namespace" --ignore-not-found
	if [[ -z $(kubectl get dsq --all-namespaces -o name 2>/dev/null) ]]; then
		kubectl delete crd diseqnetworks.diseq.io --ignore-not-found
	else
		echo 'the CRD diseqnetworks.diseq.io stays: there are other networks'
	fi
}

# build_helm: the pinned Helm, which installs the operator's chart.
build_helm() { go_build helm hack/tools/helm "$PWD/bin/tools/" '' helm.sh/helm/v4/cmd/helm; }

# make_cluster is the part that takes minutes: the cluster, the images, Helm. The compiler works while
# the cluster starts, which is mostly waiting, and the nodes load images while DNS starts. The
# compiler works for the cluster first, since the operator and Helm share most packages with it.
make_cluster() {
	local up
	hack/kind/kind.sh prepare
	hack/kind/kind.sh up --no-wait --name "$cluster" &
	up=$!
	say 'building the operator and the images diseq:dev and diseq-operator:dev'
	hack/image/build.sh >&2
	say 'building Helm'
	build_helm
	wait "$up"
	hack/kind/kind.sh load --name "$cluster" bin/images/diseq.tar bin/images/diseq-operator.tar
	hack/kind/kind.sh wait --name "$cluster"
}

# in_background COMMAND...: start it as a process group of its own, which ends with this script.
in_background() {
	set -m
	"$@" >"$logs/demo-background.log" 2>&1 </dev/null &
	background=$!
	set +m
	trap 'kill -TERM -- "-$background" 2>/dev/null || true' EXIT
	trap 'exit 130' INT TERM
}

# await_background shows what the command in the background printed and prints, until it ends.
await_background() {
	tail -n +1 -f --pid="$background" "$logs/demo-background.log"
	wait "$background" || fail "cannot go on without the above"
	trap - EXIT INT TERM
}

up() {
	local context=''
	if [[ -n $use_context ]]; then
		context=$(kubectl config current-context) || fail 'USE_CONTEXT=1, but kubectl has no current context'
	fi
	step 'building bin/diseq; a fresh machine takes one to two minutes for it'
	go_build diseq . "$PWD/bin/" "-X main.version=${VERSION:-devel} -X main.commit=${COMMIT:-}" ./cmd/diseq

	if [[ -n $use_context ]]; then in_background build_helm; else in_background make_cluster; fi
	step 'part 1: four validators as processes. Part 2, the same on Kubernetes, is built in the meantime'
	hack/devnet-demo.sh

	step "part 2: Kubernetes${context:+, in the context $context}. This was and is built for it:"
	await_background
	if [[ -n $use_context ]]; then
		demonstrate
	else
		KUBECONFIG=$(hack/kind/kind.sh kubeconfig --name "$cluster")
		export KUBECONFIG
		hack/kind/kind.sh run --name "$cluster" -- hack/demo.sh demonstrate
	fi
}

case ${1:-up} in
up) up ;;
demonstrate) demonstrate ;;
down) remove ;;
*) fail "$1: up or down" ;;
esac
