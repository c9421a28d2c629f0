# shellcheck shell=bash
# shellcheck disable=SC2154 # what lib.sh sets
# binaries.sh: sourced by kind.sh. Builds programs from the modules in go/, which pin every version, into one folder of the
# cache per module and content, and links them into its bin/.

export GOFLAGS=-mod=readonly CGO_ENABLED=0 GOWORK=off

command -v go >/dev/null || die "there is no go in PATH; install Go from https://go.dev/dl"

# module_version MODULE PATH: the version of a module that the module go/MODULE pins.
module_version() { go -C "$kind_dir/go/$1" list -m -f '{{.Version}}' "$2"; }

kubernetes=$(module_version k8s k8s.io/kubernetes)

# What each program is built from: the module in go/, and the package.
declare -A program=(
	[kind]='tools sigs.k8s.io/kind'
	[kubectl]='k8s k8s.io/kubernetes/cmd/kubectl'
	[mkimg]='tools ./mkimg'
	[probe]='tools ./probe'
	[pause]='tools ./pause'
	[etcd]='etcd go.etcd.io/etcd/server/v3'
	[coredns]='coredns .'
	[local-path-provisioner]='localpath github.com/rancher/local-path-provisioner'
	[podnet]='k8s ./podnet'
)
for component in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubeadm; do
	program[$component]="k8s k8s.io/kubernetes/cmd/$component"
done

# Without these, every component calls itself v0.0.0-master, and kubeadm compares versions.
minor=${kubernetes#v1.}
linker_flags='-s -w'
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	linker_flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
	linker_flags+=" -X $package.gitTreeState=archive"
done

# For each module two keys: of what it pins, which foreign programs depend on, and of its own
# sources as well.
declare -A module_key source_key
for module in k8s etcd coredns localpath tools; do
	module_key[$module]=$({
		go -C "$kind_dir/go/$module" env GOVERSION GOARCH
		echo "$linker_flags"
		contents "$kind_dir/go/$module"/go.{mod,sum}
	} | digest)
	source_key[$module]=$({
		echo "${module_key[$module]}"
		contents "$kind_dir/go/$module"
	} | digest)
done

# program_path NAME: where the program is, or will be, with the key of what it is made of in the
# path.
program_path() {
	local module package
	read -r module package <<<"${program[$1]}"
	if [[ $package == .* ]]; then
		echo "$kind_cache/go-$module-${source_key[$module]}/$1"
	else
		echo "$kind_cache/go-$module-${module_key[$module]}/$1"
	fi
}

# build NAME...: build what of these is not there yet, one after the other: each link takes about 1
# GB of memory.
build() {
	local name path module missing=() n=0
	for name in "$@"; do
		[[ -n ${program[$name]:-} ]] || die "there is no program '$name'; there are: ${!program[*]}"
		[[ -x $(program_path "$name") ]] || missing+=("$name")
	done
	if [[ ${#missing[@]} -gt 0 ]]; then
		need_space "$(go env GOCACHE)" 6 'compiling Kubernetes'
		need_space "$kind_cache" 1 'keeping the programs'
	fi
	[[ ${#missing[@]} -lt 3 ]] ||
		say "${#missing[@]} programs to build: 10 to 20 minutes where nothing of them is in Go's cache, else one or two"
	for name in "${missing[@]}"; do
		module=${program[$name]%% *} path=$(program_path "$name") n=$((n + 1))
		say "building $name, $n of ${#missing[@]}"
		mkdir -p "${path%/*}"
		quiet "go-$name.log" go -C "$kind_dir/go/$module" build -trimpath -ldflags "$linker_flags" \
			-o "$path.new" "${program[$name]#* }"
		mv "$path.new" "$path"
	done
	for name in "$@"; do
		link "$(program_path "$name")" "$kind_bin/$name"
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
		link "$(program_path "$name")" "$kind_cache/assets/$name"
	done
	echo "$kind_cache/assets"
}

# forget_old: remove what was built from other versions, unless it was made this week: another checkout may share the cache.
forget_old() {
	local current path
	current=" ${base_archive##*/} ${node_archive##*/} "
	for module in "${!module_key[@]}"; do
		current+="go-$module-${module_key[$module]} go-$module-${source_key[$module]} "
	done
	find "$kind_cache" -maxdepth 1 \( -name 'go-*' -o -name 'base-*' -o -name 'node-*' \) -mtime +7 -print0 |
		while IFS= read -r -d '' path; do
			[[ $current == *" ${path##*/} "* ]] && continue
			say "removing ${path##*/}, which is of other versions"
			rm -rf "$path"
		done
}
