# shellcheck shell=bash
# shellcheck disable=SC2154 # what lib.sh and binaries.sh set
# node-image.sh: sourced by kind.sh. The image that the nodes of a cluster run: kindest/node if the
# engine can pull it, else one made of our programs and Debian packages. The cache keeps each stage
# under a digest of its inputs.

readonly debian=bookworm
readonly node_programs=("${hyperkube_names[@]}" kubectl etcd coredns podnet volumes pause)

base_key=$({
	echo "$debian"
	contents "$kind_dir/node/packages"
} | digest)
node_key=$({
	echo "$base_key" "${programs##*/}"
	contents "$kind_dir/node" "$kind_dir/node-image.sh"
} | digest)
base_archive=$kind_cache/base-$base_key.tar
node_archive=$kind_cache/node-$node_key.tar
own_image=diseq-kind/node:$kubernetes-$node_key
readonly image_label=diseq-kind.kubernetes

# node_image: print the name of an image that the engine has.
node_image() {
	local image=${DISEQ_KIND_IMAGE:-} official=kindest/node:$kubernetes
	if [[ -n $image ]]; then
		in_engine docker image inspect "$image" >/dev/null 2>&1 || quiet pull.log in_engine docker pull "$image"
	elif [[ $(engine) == existing ]] && pull "$official"; then
		image=$official
	else
		image=$own_image
		own_node_image
	fi
	echo "$image"
}

# pull IMAGE: whether the engine has it, now or already.
pull() {
	in_engine docker image inspect "$1" >/dev/null 2>&1 && return
	say "pulling $1"
	timeout 900 docker pull --quiet "$1" >"$logs/pull.log" 2>&1 && return
	say "it cannot be pulled: $(tail -n 1 "$logs/pull.log")"
	return 1
}

own_node_image() {
	local stale base=''
	in_engine docker image inspect "$own_image" >/dev/null 2>&1 && return
	if [[ ! -f $node_archive ]]; then
		[[ $(id -u) -eq 0 ]] ||
			die "kindest/node cannot be pulled, and building a node image needs root (chroot): run this as root"
		need_space "$kind_cache" 6 'building the node image'
		install_packages jq=jq
		# Debian waits for its mirror while Go compiles. If this script ends early, debootstrap still
		# holds the lock until it has ended.
		if [[ ! -f $base_archive ]]; then
			build_base &
			base=$!
		fi
		build kind mkimg "${node_programs[@]}"
		[[ -z $base ]] || wait "$base"
		build_node
	fi
	need_space "$(in_engine docker info --format '{{.DockerRootDir}}')" 4 'loading the node image, and four nodes'
	say "loading $own_image"
	quiet docker-load.log in_engine docker load --quiet --input "$node_archive"
	# Docker refuses to remove those that a cluster still runs.
	in_engine docker images --filter "label=$image_label" --format '{{.Repository}}:{{.Tag}}' | while read -r stale; do
		[[ $stale == "$own_image" ]] || in_engine docker rmi "$stale" </dev/null >/dev/null 2>&1 || true
	done
	forget_old
}

# --- Debian ------------------------------------------------------------------------------------------------------------

build_base() {
	local root=$kind_cache/base.new mirror=()
	[[ -z ${DISEQ_KIND_MIRROR:-} ]] || mirror=("$DISEQ_KIND_MIRROR")
	install_packages debootstrap=debootstrap gpgv=gpgv
	# The package has keys and no command.
	[[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || install_packages debian-archive-keyring=debian-archive-keyring
	say "Debian $debian, $(wc -l <"$kind_dir/node/packages") packages and what they need"
	rm -rf "$root"
	# It mounts things in the new root. In a mount namespace of its own they end with it, even if it
	# is killed.
	quiet debootstrap.log unshare --mount --pid --fork --kill-child debootstrap --variant=minbase --force-check-gpg \
		--include="$(paste -sd, "$kind_dir/node/packages")" "$debian" "$root" "${mirror[@]}"
	chroot "$root" apt-get clean
	rm -rf "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info} "$root"/var/log/*
	tar -C "$root" --numeric-owner -cf "$base_archive.new" .
	rm -rf "$root"
	mv "$base_archive.new" "$base_archive"
}

# --- the images of the pods that make a cluster ------------------------------------------------------------------------

# pack FOLDER NAME:TAG... [MKIMG-FLAG...] [-- COMMAND]: turn the folder into an image with these
# names, and remove the folder.
pack() {
	local folder=$1 image=$2 arguments=()
	shift
	while [[ $# -gt 0 && $1 != -* ]]; do
		arguments+=(-tag "$1")
		shift
	done
	tar -C "$folder" --owner=0 --group=0 --numeric-owner --mtime=@0 --sort=name -cf "$work/layer.tar" .
	"$kind_bin/mkimg" "${arguments[@]}" -layer "$work/layer.tar" -out "$work/images/${image//[^a-zA-Z0-9.-]/_}.tar" "$@"
	rm -rf "$folder" "$work/layer.tar"
}

# pack_program NAME:TAG PROGRAM [MKIMG-FLAG...]: an image that holds one static program.
pack_program() {
	install -D -m 755 "$kind_bin/$2" "$work/image/$2"
	pack "$work/image" "$1" "${@:3}" -- "/$2"
}

# install_kubernetes FOLDER NAME...: hyperkube in the folder, and links of these names to it.
install_kubernetes() {
	local name
	install -D -m 755 "$programs/hyperkube" "$1/hyperkube"
	for name in "${@:2}"; do ln -s hyperkube "$1/$name"; done
}

# with_libraries FILE...: copy programs out of the Debian root into the image's, with the libraries
# they are linked to.
with_libraries() {
	local file
	{
		printf '%s\n' "$@"
		chroot "$root" ldd "$@" | awk '$2 == "=>" { print $3 } $1 ~ "^/.*[^:]$" { print $1 }'
	} | sort -u | while read -r file; do
		install -D -m 755 "$root$(chroot "$root" readlink -f "$file")" "$work/image$file"
	done
}

build_images() {
	local image name control_plane=()
	mkdir -p "$work/images"
	# The names that kubeadm will ask for; the module pins etcd and CoreDNS to those versions.
	"$kind_bin/kubeadm" config images list --kubernetes-version "$kubernetes" >"$work/names" 2>"$logs/kubeadm.log"
	while read -r image; do
		name=${image##*/} name=${name%%:*}
		case $name in
		coredns) pack_program "$image" coredns ;;
		pause)
			pack_program "$image" pause -user 65535:65535
			pause=$image
			;;
		*) control_plane+=("$image") ;;
		esac
	done <"$work/names"
	build_control_plane "${control_plane[@]}"
	with_libraries /usr/sbin/nft
	install -m 755 "$kind_bin/podnet" "$work/image/podnet"
	pack "$work/image" diseq-kind/podnet:dev -- /podnet
	pack_program diseq-kind/volumes:dev volumes
}

# build_control_plane NAME:TAG...: one image for all pods that name their program: those of kubeadm,
# and kube-proxy. It calls iptables, which opens its extensions at run time, by name: many are links,
# and one needs a library that no program needs. Without them, services work on some nodes or on
# none.
build_control_plane() {
	local name extensions image=$work/image
	mapfile -t extensions < <(cd "$root" && printf '/%s\n' usr/lib/*/xtables/*.so)
	with_libraries /usr/sbin/xtables-{nft,legacy}-multi /usr/sbin/nft /usr/sbin/conntrack /bin/kmod /bin/dash "${extensions[@]}"
	for name in ip{,6}tables{,-save,-restore}; do
		ln -s xtables-nft-multi "$image/usr/sbin/$name"
	done
	mkdir -p "$image"/{run,tmp,sbin,usr/lib}
	ln -s /bin/kmod "$image/sbin/modprobe"
	install_kubernetes "$image/usr/local/bin" kube-{apiserver,controller-manager,scheduler,proxy}
	install -m 755 "$kind_bin/etcd" "$image/usr/local/bin/etcd"
	pack "$image" "$@"
}

# --- the root of a node ------------------------------------------------------------------------------------------------

build_root() {
	local files name
	files=$(module_value sigs.k8s.io/kind '{{.Dir}}')/images/base/files
	mkdir -p "$root"
	tar -C "$root" -xf "$base_archive"
	# kind's own entrypoint, units and settings. Files of a module are read-only and not executable.
	cp -r --no-preserve=mode,ownership "$files/." "$root/"
	chmod 755 "$root"/usr/local/bin/* "$root"/kind/bin/*
	# Debian's containerd and CNI plugins, at the places where kind looks for them.
	for name in containerd ctr containerd-shim-runc-v2; do
		ln -sf "/usr/bin/$name" "$root/usr/local/bin/$name"
	done
	mkdir -p "$root"/{opt/cni/bin,etc/cni/net.d,etc/kubernetes/manifests,kind/manifests}
	for name in host-local loopback ptp portmap; do
		install -m 755 "$root/usr/lib/cni/$name" "$root/opt/cni/bin/$name"
	done
	rm -rf "$root/usr/lib/cni"
	install_kubernetes "$root/usr/bin" kubeadm kubelet
	install -m 755 "$kind_bin/kubectl" "$root/usr/bin/kubectl"
	printf %s "$kubernetes" >"$root/kind/version"
	install -m 644 "$kind_dir/node/cni.yaml" "$root/kind/manifests/default-cni.yaml"
	install -m 644 "$kind_dir/node/storage.yaml" "$root/kind/manifests/default-storage.yaml"
}

configure_root() {
	local settings=$root/etc/containerd/config.toml units=$root/lib/systemd/system
	# Nobody may lower an oom_score_adj without CAP_SYS_RESOURCE; fuse-overlayfs is not installed.
	sed -i -E "$settings" \
		-e "s#(sandbox_image = ).*#\\1\"$pause\"#" \
		-e 's#(restrict_oom_score_adj = )false#\1true#' \
		-e '/fuse-overlayfs/,/^$/d'
	if ! grep -q "$pause" "$settings" || ! grep -q 'adj = true' "$settings"; then
		die "kind's settings of containerd are not what node-image.sh expects: $settings"
	fi
	# Without a spec to start from, containers get containerd's limit of 1024 open files.
	chroot "$root" ctr oci spec | jq 'del(.process.rlimits)' >"$root/etc/containerd/cri-base.json"
	# No unit that a node has no use for, as in kind's own base image.
	find "$units/sysinit.target.wants/" -name systemd-tmpfiles-setup.service -delete
	rm -f "$units"/multi-user.target.wants/* "$root"/etc/systemd/system/*.wants/* \
		"$units"/local-fs.target.wants/* "$units"/sockets.target.wants/*{udev,initctl}* "$units"/basic.target.wants/*
	echo ReadKMsg=no >>"$root/etc/systemd/journald.conf"
	ln -sf /usr/lib/systemd/systemd "$root/sbin/init"
	chroot "$root" systemctl --quiet enable kubelet containerd undo-mount-hacks
	chroot "$root" systemctl --quiet mask systemd-binfmt
	: >"$root/etc/machine-id"
}

# import_images ROOT IMAGES: let the root's own containerd unpack the images, in namespaces that end
# with it, so that no mount and no process can stay.
import_images() {
	unshare --mount --pid --fork --kill-child bash -euo pipefail -s "$1" "$2" <<'OUTSIDE'
		mount --make-rprivate /
		mount -t proc proc "$1/proc"
		mount -t tmpfs tmpfs "$1/run"
		mount -t tmpfs tmpfs "$1/tmp"
		mkdir "$1/tmp/images"
		mount --bind "$2" "$1/tmp/images"
		chroot "$1" bash -euo pipefail -s <<'INSIDE'
			cd /tmp
			printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >containerd.toml
			containerd --config containerd.toml >containerd.log 2>&1 &
			for _ in {1..100}; do
				ctr version >/dev/null 2>&1 && break
				sleep 0.1
			done
			for archive in images/*; do
				ctr -n k8s.io images import --snapshotter overlayfs "$archive" || { tail containerd.log; exit 1; }
			done
			# Nothing needs the packed layers any more. "content rm" forgets them, but leaves the files
			# to a later cleaning.
			layers=$(for manifest in $(ctr -n k8s.io images ls | awk 'NR > 1 { print $3 }' | sort -u); do
				ctr -n k8s.io content get "$manifest" | jq -r '.layers[].digest'
			done | sort -u)
			ctr -n k8s.io content rm $layers >/dev/null
			kill %1
			wait %1 || true
			for layer in $layers; do
				rm -f "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/${layer#sha256:}"
			done
INSIDE
OUTSIDE
}

build_node() {
	local work=$kind_cache/work.new root=$kind_cache/work.new/root pause=
	rm -rf "$work"
	mkdir -p "$work"
	say 'node image: its root'
	build_root
	say 'node image: the images of the pods that make a cluster'
	build_images
	say 'node image: settings'
	configure_root
	say "node image: unpacking the images into its containerd"
	quiet import.log import_images "$root" "$work/images"
	say 'node image: archive'
	tar -C "$root" --numeric-owner --exclude=./dev/'*' -cf "$work/layer.tar" .
	rm -rf "$root" "$work/images"
	# systemd ends on SIGRTMIN+3; on SIGTERM it executes itself again, and `docker stop` would wait
	# for ten seconds.
	"$kind_bin/mkimg" -tag "$own_image" -layer "$work/layer.tar" -out "$node_archive.new" -stop-signal SIGRTMIN+3 \
		-env container=docker -label "$image_label=$kubernetes" /usr/local/bin/entrypoint /sbin/init
	rm -rf "$work"
	mv "$node_archive.new" "$node_archive"
}
