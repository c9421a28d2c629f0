# shellcheck shell=bash
# shellcheck disable=SC2154 # what lib.sh and kind.sh set
# cluster.sh: sourced by kind.sh. One cluster, of the name in $cluster, on the engine that is up.

cluster_dir=$kind_cache/clusters/$cluster
kubeconfig=$cluster_dir/kubeconfig

kind_in_engine() { in_engine env KIND_EXPERIMENTAL_PROVIDER=docker KUBECONFIG="$kubeconfig" kind "$@"; }
kubectl_in_engine() { in_engine kubectl --kubeconfig "$kubeconfig" "$@"; }

# cluster_nodes [DOCKER-FLAG...]: the names of its containers, running or not.
cluster_nodes() {
	in_engine docker ps --all --filter "label=io.x-k8s.kind.cluster=$cluster" --format '{{.Names}}' "$@" | sort
}

cluster_settings() {
	cat <<-YAML
		kind: Cluster
		apiVersion: kind.x-k8s.io/v1alpha4
		kubeadmConfigPatches:
		# kubeadm gives up after four minutes, which a loaded machine may need.
		- |
		  kind: InitConfiguration
		  timeouts: {controlPlaneComponentHealthCheck: 10m, kubeletHealthCheck: 10m}
		- |
		  kind: JoinConfiguration
		  timeouts: {kubeletHealthCheck: 10m, tlsBootstrap: 10m}
	YAML
	# Kubelets refuse cgroup v1 unless their configuration allows it.
	if [[ $(in_engine docker info --format '{{.CgroupVersion}}') == 1 ]]; then
		cat <<-YAML
			- |
			  kind: KubeletConfiguration
			  apiVersion: kubelet.config.k8s.io/v1beta1
			  failCgroupV1: false
		YAML
	fi
	echo 'nodes:'
	echo '- role: control-plane'
	for ((i = 0; i < workers; i++)); do
		echo '- role: worker'
	done
}

# prepare: everything that `up` does, except for the cluster.
prepare() {
	engine_up
	node_image >/dev/null
	build kind kubectl
}

cluster_up() {
	local image stopped began nodes
	engine_up
	if [[ -n $(cluster_nodes) && ! -e $cluster_dir/complete ]]; then
		say "cluster $cluster: an earlier run was cut short, making it again"
		build kind
		cluster_delete
	fi
	nodes=$(cluster_nodes | wc -l)
	# Making a node image builds kind and kubectl as well, in the same run of go.
	[[ $nodes -gt 0 ]] || image=$(node_image)
	build kind kubectl
	if [[ $nodes -eq 0 ]]; then
		cluster_create "$image"
	else
		[[ -z $workers_given || $nodes -eq $((workers + 1)) ]] ||
			die "cluster $cluster exists already, with $((nodes - 1)) workers, not $workers: run kind.sh down --name $cluster first"
		say "cluster $cluster: exists already"
		began=$(date -u +%FT%TZ)
		stopped=$(cluster_nodes --filter status=exited --filter status=created)
		if [[ -n $stopped || $(age_of_engine) -lt 60 ]]; then
			say 'starting its nodes again'
			# shellcheck disable=SC2086 # one word a node
			[[ -z $stopped ]] || in_engine docker start $stopped >/dev/null
			wait_for_kubelets "$began"
			# The API server may still hold the state of their pods before the stop. New pods have
			# none.
			kubectl_in_engine -n kube-system rollout restart deployment coredns >"$logs/restart.log"
			kubectl_in_engine -n local-path-storage rollout restart deployment,daemonset >"$logs/restart.log"
		fi
	fi
	[[ -n $no_wait ]] || cluster_wait
	say "cluster $cluster: ${no_wait:+almost }up, $(cluster_nodes | wc -l) nodes; to reach it: hack/kind/kind.sh run -- kubectl get nodes"
}

# age_of_engine: seconds since our own engine started; many if the engine is not ours. Nodes start
# with the engine, and the API server then holds the state of their pods before the stop.
age_of_engine() {
	if [[ $(engine) == own ]]; then
		echo $(($(date +%s) - $(stat -c %Y "$engine_dir/dockerd.pid")))
	else
		echo 999999
	fi
}

# wait_for_kubelets TIME: until every node has renewed its lease after that time, so that its state
# is current.
wait_for_kubelets() {
	local end=$((SECONDS + 180)) renewed
	while :; do
		renewed=$(kubectl_in_engine --request-timeout 5s -n kube-node-lease get leases \
			-o jsonpath='{range .items[*]}{.spec.renewTime}{"\n"}{end}' 2>/dev/null |
			awk -v began="$1" '$1 > began' | wc -l) || true
		[[ $renewed -lt $(cluster_nodes | wc -l) ]] || return 0
		((SECONDS < end)) || give_up "cluster $cluster did not come back within three minutes; run kind.sh down, then up"
		sleep 1
	done
}

# cluster_create IMAGE: make the cluster, in two attempts: on a loaded machine, kubeadm may give up
# waiting for a component.
cluster_create() {
	local attempt
	mkdir -p "$cluster_dir"
	cluster_settings >"$cluster_dir/kind.yaml"
	check_memory
	for attempt in 1 2; do
		say "cluster $cluster: one control plane, $workers workers"
		if kind_in_engine create cluster --name "$cluster" --image "$1" --config "$cluster_dir/kind.yaml" --retain 2>&1 |
			tee "$logs/kind-$cluster.log" | steps; then
			[[ $(engine) != own ]] || no_upstream
			: >"$cluster_dir/complete"
			return
		fi
		tail -n 20 "$logs/kind-$cluster.log" >&2
		export_logs
		[[ $attempt -eq 2 ]] || say 'kind create failed; trying once more'
		cluster_delete
	done
	die "kind create failed twice; the logs of the nodes are in $logs/$cluster"
}

# steps: the completed steps in the output of kind.
steps() {
	local line
	while IFS= read -r line; do
		[[ $line == *✓* ]] || continue
		line=${line#*✓ }
		say "  kind: ${line//[^ -~]/}"
	done
}

check_memory() {
	local need=$((700 + 250 * workers)) free
	free=$(($(awk '/^MemAvailable/ { print $2 }' /proc/meminfo) / 1024))
	((free >= need)) || say "warning: $((workers + 1)) nodes want about $need MiB of memory, $free MiB are free"
}

# no_upstream: the network of our own engine ends here, and CoreDNS would wait for an answer to each
# name outside the cluster. This makes it answer at once that there is none, in a server block of its
# own, because in one block "template" answers ahead of "kubernetes".
no_upstream() {
	{
		kubectl_in_engine -n kube-system get configmap coredns -o json |
			jq '.data.Corefile |= (gsub("\n *forward [^\n]*\\{[^}]*\\}"; "")
				| sub("^\\.:53 "; "cluster.local:53 in-addr.arpa:53 ip6.arpa:53 ")
				+ ".:53 {\n    errors\n    reload\n    template ANY ANY {\n        rcode NXDOMAIN\n    }\n}\n")' |
			kubectl_in_engine replace -f -
		# It reloads its settings by itself, but only after a while.
		kubectl_in_engine -n kube-system delete pod -l k8s-app=kube-dns --wait=false
	} >"$logs/coredns.log"
}

cluster_wait() {
	say 'waiting for the nodes'
	kubectl_in_engine wait node --all --for=condition=Ready --timeout=300s >"$logs/wait.log" || give_up 'not every node is Ready'
	say 'waiting for DNS and storage'
	kubectl_in_engine -n kube-system rollout status deployment coredns --timeout=300s >"$logs/wait.log" ||
		give_up 'CoreDNS does not get ready'
	# A Deployment in kindest/node, a DaemonSet in an image of ours.
	kubectl_in_engine -n local-path-storage rollout status deployment,daemonset --timeout=300s >"$logs/wait.log" ||
		give_up 'the storage provisioner does not get ready'
}

# give_up MESSAGE: end with the logs of the nodes exported.
give_up() {
	kubectl_in_engine --request-timeout 10s get pods -A -o wide >&2 || true
	export_logs
	die "$1; the logs of the nodes are in $logs/$cluster"
}

export_logs() {
	rm -rf "${logs:?}/$cluster"
	kind_in_engine export logs --name "$cluster" "$logs/$cluster" >/dev/null 2>&1 || true # our nodes have no crictl
}

cluster_delete() {
	rm -f "$cluster_dir/complete"
	kind_in_engine delete cluster --name "$cluster" --quiet >&2
}

# cluster_down: with the last cluster, an engine of our own goes as well.
cluster_down() {
	local others
	mkdir -p "$kind_cache/clusters"
	others=$(find "$kind_cache/clusters" -mindepth 1 -maxdepth 1 ! -name "$cluster")
	if [[ $(engine) == none && -d $engine_dir && -d $cluster_dir ]]; then
		# Ours was stopped, or killed. To forget its last cluster is to forget all that it keeps.
		if [[ -z $others ]]; then engine_down --purge; else engine_up; fi
	fi
	if [[ $(engine) != none && -n $(cluster_nodes) ]]; then
		build kind
		cluster_delete
	fi
	rm -rf "$cluster_dir"
	say "cluster $cluster: removed"
	if [[ -z $others && -d $engine_dir ]]; then engine_down; fi
}

# cluster_load ARCHIVE...: make the images known to the engine and to every node. Archives are as
# `docker save` writes them.
cluster_load() {
	local archive
	[[ $# -gt 0 ]] || die 'load: name an archive, as docker save or hack/image/build.sh writes it'
	[[ $(engine) != none && -e $cluster_dir/complete ]] || die "load: there is no cluster $cluster; run kind.sh up --name $cluster"
	install_packages jq=jq
	for archive in "$@"; do
		[[ -f $archive ]] || die "load: there is no file $archive"
		load_archive "$archive"
	done
}

load_archive() {
	local archive=$1 images config tag node tags loading=() status=0
	images=$(tar -xOf "$archive" manifest.json 2>/dev/null | jq -r '.[] | [.Config, .RepoTags[]] | join(" ")') ||
		die "load: $archive is not an image archive as docker save writes it: no manifest.json with tags in it"
	while read -r config tags; do
		config=$(grep -oE '[0-9a-f]{64}' <<<"$config") || die "load: $archive names no digest for its image: $config"
		for tag in $tags; do
			if [[ $(in_engine docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null </dev/null) != "sha256:$config" ]]; then
				quiet docker-load.log in_engine docker load --quiet --input "$archive" </dev/null
			fi
		done
	done <<<"$images"
	for node in $(cluster_nodes); do
		load_into "$node" "$archive" "$images" &
		loading+=($!)
	done
	for node in "${loading[@]}"; do wait "$node" || status=1; done
	[[ $status -eq 0 ]] || die "load: $archive did not get to every node (see above)"
	say "loaded $(awk '{ $1 = ""; print substr($0, 2) }' <<<"$images" | xargs)"
}

# load_into NODE ARCHIVE IMAGES: straight into the node's containerd. A label on the image there holds
# its digest, so that an image that is there is not sent again. The label goes when the name gets
# another image.
load_into() {
	local node=$1 archive=$2 config tags tag name missing='' label=diseq-kind.config
	local there
	there=$(in_engine docker exec "$node" ctr --namespace k8s.io images ls)
	while read -r config tags; do
		config=$(grep -oE '[0-9a-f]{64}' <<<"$config")
		for tag in $tags; do
			grep -F "$(full_name "$tag") " <<<"$there" | grep -qF "$label=$config" || missing=1
		done
	done <<<"$3"
	[[ -n $missing ]] || return 0
	in_engine docker exec --interactive "$node" ctr --namespace k8s.io images import --all-platforms --snapshotter overlayfs - \
		<"$archive" >"$logs/load-$node.log" 2>&1 || {
		tail -n 5 "$logs/load-$node.log" >&2
		return 1
	}
	while read -r config tags; do
		config=$(grep -oE '[0-9a-f]{64}' <<<"$config")
		for tag in $tags; do
			name=$(full_name "$tag")
			in_engine docker exec "$node" ctr --namespace k8s.io images label "$name" "$label=$config" </dev/null >/dev/null
		done
	done <<<"$3"
}

# full_name NAME:TAG: as containerd calls it. The part before the first slash is a registry if it
# has a dot or a colon.
full_name() {
	case $1 in
	*.*/* | *:*/* | localhost/*) echo "$1" ;;
	*/*) echo "docker.io/$1" ;;
	*) echo "docker.io/library/$1" ;;
	esac
}
