# shellcheck shell=bash
# shellcheck disable=SC2154 # what lib.sh sets
# binaries.sh: sourced by kind.sh. Builds programs from the module in go/, which pins every version,
# into a folder of the cache that is named after the content of that module, and links them into the
# cache's bin/.

export GOFLAGS=-mod=readonly CGO_ENABLED=0 GOWORK=off

command -v go >/dev/null || die "there is no go in PATH; install Go from https://go.dev/dl"

# module_value PATH TEMPLATE: print a value of a module that go/ pins, as `go list -m` does.
module_value() { go -C "$kind_dir/go" list -m -f "$2" "$1"; }

kubernetes=$(module_value k8s.io/kubernetes '{{.Version}}')

# The package of each program, in the module in go/ or in one that it requires.
declare -Ar program=(
	[hyperkube]=./hyperkube
	[etcd]=./etcd
	[coredns]=./coredns
	[podnet]=./podnet
	[volumes]=./volumes
	[pause]=./pause
	[mkimg]=./mkimg
	[probe]=./probe
	[kind]=sigs.k8s.io/kind
	[kubectl]=k8s.io/kubernetes/cmd/kubectl
)
# The names of hyperkube, each of which calls another program in it.
readonly hyperkube_names=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubeadm)

# Without these, every component calls itself v0.0.0-master, and kubeadm compares versions.
minor=${kubernetes#v1.}
linker_flags='-s -w'
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	linker_flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
	linker_flags+=" -X $package.gitTreeState=archive"
done

programs=$kind_cache/go-$({
	go env GOVERSION GOARCH
	echo "$linker_flags"
	contents "$kind_dir/go" | grep -v '_test\.go$'
} | digest)

# source_of NAME: the program whose file runs under this name.
source_of() {
	if [[ " ${hyperkube_names[*]} " == *" $1 "* ]]; then echo hyperkube; else echo "$1"; fi
}

# build NAME...: build those of these programs that are missing.
build() {
	local name source missing=() packages=()
	for name in "$@"; do
		source=$(source_of "$name")
		[[ -n ${program[$source]:-} ]] || die "there is no program '$name'; there are: ${!program[*]} ${hyperkube_names[*]}"
		[[ -x $programs/$source || " ${missing[*]} " == *" $source "* ]] || missing+=("$source")
	done
	if [[ ${#missing[@]} -gt 0 ]]; then
		need_space "$(go env GOCACHE)" 4 'compiling Kubernetes'
		need_space "$kind_cache" 1 'keeping the programs'
		say "building ${#missing[@]} of the programs of a cluster: ${missing[*]}"
		for name in "${missing[@]}"; do packages+=("${program[$name]}"); done
		mkdir -p "$programs"
		rm -rf "$programs.new"
		mkdir "$programs.new"
		go_build kind "$kind_dir/go" "$programs.new/" "$linker_flags" "${packages[@]}"
		mv "$programs.new"/* "$programs/"
		rmdir "$programs.new"
	fi
	for name in "$@"; do
		source=$(source_of "$name")
		[[ $name == "$source" ]] || link "$programs/$source" "$programs/$name"
		link "$programs/$name" "$kind_bin/$name"
	done
}

# link TARGET NAME: a link relative to its own folder, so that the cache can be moved.
link() {
	local to
	to=$(realpath --no-symlinks --relative-to="${2%/*}" "$1")
	[[ $(readlink "$2") == "$to" ]] || ln -sfn "$to" "$2"
}

# assets: the control plane that integration tests start as plain processes. Prints its folder.
assets() {
	local name
	build kube-apiserver etcd kubectl
	mkdir -p "$kind_cache/assets"
	for name in kube-apiserver etcd kubectl; do
		link "$programs/$name" "$kind_cache/assets/$name"
	done
	echo "$kind_cache/assets"
}

# forget_old: remove what was built from other versions, unless it was made this week: another
# checkout may share the cache.
forget_old() {
	local current path
	current=" ${programs##*/} ${base_archive##*/} ${node_archive##*/} "
	find "$kind_cache" -maxdepth 1 \( -name 'go-*' -o -name 'base-*' -o -name 'node-*' \) -mtime +7 -print0 |
		while IFS= read -r -d '' path; do
			[[ $current == *" ${path##*/} "* ]] && continue
			say "removing ${path##*/}, which is of other versions"
			rm -rf "$path"
		done
}
