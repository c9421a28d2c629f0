#!/usr/bin/env bash
# smoke.sh [--workers N] [--keep]: create a cluster, check all that a workload relies on, remove
# everything, and check that nothing is left. --keep leaves the cluster up. About two minutes if the
# node image is there.
set -euo pipefail
# shellcheck source=hack/kind/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

workers=3 keep='' replicas=4 cluster=smoke
while [[ $# -gt 0 ]]; do
	case $1 in
	--workers)
		workers=${2:?--workers wants a number}
		shift 2
		;;
	--keep)
		keep=1
		shift
		;;
	*) die "smoke.sh takes no '$1'; it takes --workers N and --keep" ;;
	esac
done

tmp=$(mktemp -d)
forward=''
kind_sh() { "$kind_dir/kind.sh" "$@"; }
run() { kind_sh run --name "$cluster" -- "$@"; }
kubectl() { run kubectl "$@"; }
k() { kubectl -n smoke "$@"; }
ok() { say "ok    $*"; }
fail() { die "smoke: $*"; }
namespaces() { for p in /proc/[0-9]*; do readlink "$p/ns/net" || true; done 2>/dev/null | sort -u; }
mounts() { awk '{ print $5 }' /proc/self/mountinfo | sort; }
inotify() { cat /proc/sys/fs/inotify/max_user_instances; }
# answers SECONDS COMMAND...: whether it succeeds within that time.
answers() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || return 1
		sleep 0.2
	done
}

finish() {
	local status=$?
	trap - EXIT
	if [[ -n $forward ]]; then kill "$forward" 2>/dev/null || true; fi
	if [[ $status -ne 0 ]]; then
		say "FAILED; the cluster stays up for inspection, kind.sh down --name $cluster removes it"
		kubectl get pods -A -o wide >&2 || true
	fi
	rm -rf "$tmp"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

engine() { kind_sh status | awk '/^engine:/ { print $2 }'; }
[[ $(engine) != own ]] || fail 'take down what is up first (kind.sh down): what this test leaves could not be told from it'
namespaces >"$tmp/namespaces.before"
mounts >"$tmp/mounts.before"
inotify >"$tmp/inotify.before"

kind_sh up --name "$cluster" --workers "$workers"
namespaces >"$tmp/namespaces.during"
mode=$(engine)

[[ $(kubectl get nodes --no-headers | grep -cw Ready) -eq $((workers + 1)) ]] || fail "not $((workers + 1)) nodes are Ready"
ok "$((workers + 1)) nodes Ready"
[[ $(kubectl -n kube-system get deployment coredns -o jsonpath='{.status.readyReplicas}') -eq 2 ]] || fail 'CoreDNS is not ready'
ok 'CoreDNS ready'

# run hands on standard input, the exit status and signals.
[[ $(echo through | run cat) == through ]] || fail 'run lost its standard input'
status=0
run sh -c 'exit 7' || status=$?
[[ $status -eq 7 ]] || fail "run made of exit status 7 a $status"
ok 'run: standard input and exit status'

mkdir -p "$tmp/root"
kind_sh programs mkimg probe
install -m 755 "$kind_bin/probe" "$tmp/root/probe"
tar -C "$tmp/root" --owner=0 --group=0 --mtime=@0 -cf "$tmp/layer.tar" .
"$kind_bin/mkimg" -tag diseq-kind/probe:dev -layer "$tmp/layer.tar" -out "$tmp/probe.tar" /probe
for time in first second; do
	began=$(date +%s%3N)
	kind_sh load --name "$cluster" "$tmp/probe.tar"
	ok "load, the $time time: $(($(date +%s%3N) - began)) ms"
done

kubectl apply -f - >&2 <<YAML
apiVersion: v1
kind: Namespace
metadata: {name: smoke, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Service
metadata: {name: probe, namespace: smoke}
spec: {clusterIP: None, selector: {app: probe}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: smoke}
spec: {selector: {app: probe}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: probe, namespace: smoke}
spec:
  serviceName: probe
  replicas: $replicas
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: probe}}
  template:
    metadata: {labels: {app: probe}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 2
      securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: probe}}}
      containers:
      - name: probe
        image: diseq-kind/probe:dev
        imagePullPolicy: IfNotPresent
        env: [{name: DATA_DIR, value: /data}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /id, port: 8080}, periodSeconds: 1}
        securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], storageClassName: standard, resources: {requests: {storage: 16Mi}}}
YAML
k rollout status statefulset probe --timeout=180s >&2
[[ $(k get pvc --no-headers | grep -cw Bound) -eq $replicas ]] || fail 'not every claim is bound'
nodes=$(k get pods -l app=probe -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | wc -l)
[[ $workers -eq 0 || $nodes -ge $((workers < replicas ? workers : replicas)) ]] || fail "the pods are on $nodes nodes only"
ok "StatefulSet: $replicas non-root pods on $nodes nodes wrote to their volumes of class \"standard\""

# from POD PATH: what that pod's server answers, through the API server.
from() { kubectl get --raw "/api/v1/namespaces/smoke/pods/$1:8080/proxy$2"; }
for ((i = 0; i < replicas; i++)); do
	ip=$(k get pod "probe-$i" -o jsonpath='{.status.podIP}')
	for ((j = 0; j < replicas; j++)); do
		got=$(from "probe-$i" "/get?u=http://probe-$j.probe.smoke.svc.cluster.local:8080/id")
		# A pod must be seen under its own address, by itself as well as by pods elsewhere.
		[[ $got == "probe-$j starts=1 uid=65532 from=$ip" ]] || fail "probe-$i ($ip) to probe-$j: $got"
	done
done
ok "headless names: every pod reached every pod, source addresses kept; last: $got"
for ((i = 0; i < 40; i++)); do from probe-0 '/get?u=http://front/id'; done | cut -d' ' -f1 | sort | uniq -c >"$tmp/front"
[[ $(wc -l <"$tmp/front") -ge 3 ]] || fail "ClusterIP: 40 requests went to $(cat "$tmp/front")"
ok "ClusterIP: 40 requests went to $(awk '{ print $2 ":" $1 }' "$tmp/front" | xargs)"
if [[ $mode == own ]]; then
	got=$(from probe-0 '/lookup?h=nowhere.example.')
	[[ $got == *'no such host'* && ${got##*ms=} -lt 500 ]] || fail "a name outside the cluster: $got"
	ok "a name outside the cluster fails at once: $got"
fi
[[ $(k logs probe-0) == *'probe-0: start 1, uid 65532'* ]] || fail "logs: $(k logs probe-0)"
ok "logs: $(k logs probe-0 | head -n 1)"

# A policy on the receiver lets one pod in, one on the sender lets it out to one pod. Tried by
# address: DNS is egress, too.
address() { k get pod "probe-$1" -o jsonpath='{.status.podIP}'; }
reaches() { from "probe-$1" "/get?u=http://$(address "$2"):8080/id"; }
reaches_not() { ! reaches "$1" "$2"; }
kubectl apply -f - >&2 <<'YAML'
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: receiver, namespace: smoke}
spec:
  podSelector: {matchLabels: {statefulset.kubernetes.io/pod-name: probe-1}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {statefulset.kubernetes.io/pod-name: probe-0}}}]
    ports: [{port: http}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: sender, namespace: smoke}
spec:
  podSelector: {matchLabels: {statefulset.kubernetes.io/pod-name: probe-2}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {statefulset.kubernetes.io/pod-name: probe-3}}}]
YAML
answers 30 reaches_not 3 1 || fail 'NetworkPolicy: probe-3 reaches probe-1, which lets in probe-0 alone'
answers 30 reaches_not 2 0 || fail 'NetworkPolicy: probe-2 reaches probe-0, but may send to probe-3 alone'
for pair in '0 1' '2 3' '3 0' '0 2'; do
	# shellcheck disable=SC2086 # two words
	reaches $pair >/dev/null || fail "NetworkPolicy: $pair is allowed, and is cut"
done
[[ $(k get pod probe-1 -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}') == True ]] || fail "a policy cuts the kubelet's probe"
k delete networkpolicy receiver sender >&2
answers 30 reaches 3 1 || fail 'NetworkPolicy: still in force though deleted'
ok 'NetworkPolicy: on receiver and sender, by pod and named port, gone when deleted'

run kubectl -n smoke port-forward pod/probe-1 :8080 >"$tmp/forward" 2>&1 &
forward=$!
answers 10 grep -q '^Forwarding from 127' "$tmp/forward" || fail "port-forward: $(cat "$tmp/forward")"
port=$(sed -nE 's/^Forwarding from 127.0.0.1:([0-9]+) .*/\1/p' "$tmp/forward")
# shellcheck disable=SC2016 # for the other shell
got=$(run bash -c 'exec 3<>/dev/tcp/127.0.0.1/$1; printf "GET /id HTTP/1.0\r\n\r\n" >&3; tail -n 1 <&3' - "$port")
[[ $got == 'probe-1 '* ]] || fail "port-forward: $got"
kill "$forward"
status=0
wait "$forward" 2>/dev/null || status=$?
[[ $status -ne 0 ]] || fail 'run did not hand on SIGTERM'
forward=''
ok "port-forward: $got; ended by a signal through run"

if [[ $workers -gt 1 ]]; then
	node=$(k get pod probe-0 -o jsonpath='{.spec.nodeName}')
	began=$SECONDS
	kubectl drain "$node" --ignore-daemonsets --delete-emptydir-data --timeout=120s >&2
	left=$(kubectl get pods -A --field-selector "spec.nodeName=$node" \
		-o jsonpath='{range .items[*]}{.metadata.ownerReferences[0].kind}{"\n"}{end}' | grep -vc DaemonSet || true)
	[[ $left -eq 0 ]] || fail "drain: $left pods are still on $node"
	ok "drain: $node empty after $((SECONDS - began)) s"
	# Its volume ties the pod to the node, so it comes back there, with its data.
	[[ $(k get pod probe-0 -o jsonpath='{.status.phase}') == Pending ]] || fail 'probe-0 is on another node than its volume'
	kubectl uncordon "$node" >&2
	k rollout status statefulset probe --timeout=120s >&2
	got=$(from probe-0 /id)
	[[ $got == 'probe-0 starts=2 '* ]] || fail "uncordon: $got"
	ok "uncordon: the pod is back with its volume: $got"
fi

say 'memory of the nodes:'
run docker stats --no-stream --format '  {{.Name}} {{.MemUsage}} {{.CPUPerc}}' >&2
free -m | awk '/^Mem:/ { print "  machine: used " $3 " MiB of " $2 }' >&2
kubectl delete namespace smoke --timeout=120s >&2
no_volumes() { [[ -z $(kubectl get pv --no-headers 2>/dev/null) ]]; }
answers 60 no_volumes || fail 'a volume outlives its claim'
ok 'volumes are removed with their claims'

[[ -z $keep ]] || exit 0
kind_sh down --name "$cluster"
if [[ $mode == own ]]; then
	# A link may lead to a cache elsewhere; mounts are listed under the real path.
	ln -s "$kind_cache" "$tmp/cache"
	DISEQ_KIND_CACHE=$tmp/cache kind_sh engine up
	DISEQ_KIND_CACHE=$tmp/cache kind_sh engine down || fail 'an engine whose cache is reached by a symbolic link does not go'
	ok 'the cache may be a symbolic link'
	# Namespaces go with their last process, a moment later.
	none_left() {
		namespaces >"$tmp/namespaces.after"
		left=$(comm -13 "$tmp/namespaces.before" "$tmp/namespaces.during" | comm -12 - "$tmp/namespaces.after")
		[[ -z $left ]]
	}
	answers 5 none_left || fail "network namespaces left: $left"
	left=$(mounts | comm -13 "$tmp/mounts.before" - | grep -F "$kind_cache" || true)
	[[ -z $left ]] || fail "mounts left: $left"
	left=$(for p in /proc/[0-9]*; do { tr '\0' ' ' <"$p/cmdline"; } 2>/dev/null | grep -F "$kind_cache/engine" || true; done)
	[[ -z $left ]] || fail "processes left: $left"
	# Of this cache: another may have an engine up.
	left=$(find /sys/fs/cgroup -maxdepth 2 -name "diseq-kind-$(printf %s "$kind_cache/engine" | digest)")
	[[ -z $left ]] || fail "cgroups left: $left"
	inotify | cmp -s - "$tmp/inotify.before" || fail "$(inotify) inotify instances, before: $(cat "$tmp/inotify.before")"
	ok 'down: no process, mount, network namespace or cgroup left, the inotify limit as before'
fi
say 'all passed'
