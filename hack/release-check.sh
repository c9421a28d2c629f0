#!/usr/bin/env bash
# release-check.sh: a release can be made again. It makes the release of the last commit twice, in two
# folders, with other time zone, language, file modes and processes at a time, and compares every byte.
# Then it compiles `diseq` for linux/amd64 once more with an empty build cache, because the second
# release takes compiled packages from the cache of the first: RELEASE_COLD=1 gives the whole second
# release an empty cache, RELEASE_COLD=0 leaves this out. It vets everything for arm64, runs `diseq`
# for arm64 under qemu where Debian has it, and asks the registries for the base images.
#
# Each check that this machine cannot do is printed as "not checked" with the reason. All of it takes
# long, and 3 GB of disk, which it gives back.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
logs=$work/logs
mkdir -p "$logs"
node=
finish() {
	if [[ -n $node ]]; then kill "$node" 2>/dev/null || true; fi
	rm -rf "$work"
}
trap finish EXIT
# shellcheck source=hack/progress.sh
source hack/progress.sh
export GOFLAGS=-trimpath CGO_ENABLED=0
git() { command git -c safe.directory='*' "$@"; }

say 'first release'
hack/release.sh --out "$work/one"
say 'second release'
mkdir -p "$work/a longer path/of temporary files"
other=(TMPDIR="$work/a longer path/of temporary files" TZ=Pacific/Chatham LC_ALL=C.UTF-8 GOMAXPROCS=1)
if [[ ${RELEASE_COLD:-} == 1 ]]; then other+=(GOCACHE="$work/cache"); fi
(
	umask 077
	env "${other[@]}" hack/release.sh --out "$work/two"
)
go -C hack/release build -buildvcs=false -o "$work/release" .
"$work/release" compare "$work/one" "$work/two"

(cd "$work/one" && sha256sum --check --strict --quiet SHA256SUMS)
version=$(awk '$1 == "version" { print $2 }' "$work/one/BUILD") commit=$(git rev-parse HEAD)

# unpacked ARCH: the program for linux, from its archive.
unpacked() {
	mkdir -p "$work/$1"
	tar --extract --gzip --file "$work/one/diseq_${version}_linux_$1.tar.gz" --directory "$work/$1"
	echo "$work/$1/diseq"
}
# said COMMAND...: whether it says the version and the commit.
said() {
	local text
	text=$("$@" version)
	echo "$text"
	[[ $text == "diseq $version ("*"commit $commit, "* ]] || die "want version $version and commit $commit"
}

if [[ ${RELEASE_COLD:-} != [01] ]]; then
	say 'diseq for linux/amd64 once more, with an empty build cache'
	mkdir "$work/cold"
	git archive HEAD | tar --extract --directory "$work/cold"
	(
		cd "$work/cold"
		GOCACHE=$work/cold-cache GOOS=linux GOARCH=amd64 \
			go_build cold . "$work/diseq" "-s -w -X main.version=$version -X main.commit=$commit" ./cmd/diseq
	)
	cmp "$work/diseq" "$(unpacked amd64)"
	echo 'the binary with an empty build cache is the same, byte for byte'
	rm -rf "$work/cold" "$work/cold-cache"
fi

case $(uname -s)-$(uname -m) in
Linux-x86_64) said "$(unpacked amd64)" ;;
Linux-aarch64) said "$(unpacked arm64)" ;;
*) echo "not checked: the programs do not run on $(uname -s) $(uname -m)" ;;
esac

say 'go vet for linux/arm64, and of the programs for darwin/arm64'
GOOS=linux GOARCH=arm64 quiet vet-arm64.log go vet ./...
mapfile -t shipped < <(go list ./cmd/... | grep -v '/operator$')
GOOS=darwin GOARCH=arm64 quiet vet-darwin.log go vet "${shipped[@]}" ./client/...

# on_arm64 EMULATOR: a whole network, of one validator, on another processor: keys, signatures,
# databases, an order, a receipt. diseq devnet would start the program without the emulator.
on_arm64() {
	local diseq log=$logs/node-arm64.log network=$work/network public
	diseq=$(unpacked arm64)
	said "$1" "$diseq"
	"$1" "$diseq" init-network --dir "$network" --validators 1 --threshold 1 --peer '127.0.0.{i}:7700' --public 127.0.0.1:0 --operations 127.0.0.1:0
	sed -i 's/^  peer: .*/  peer: 127.0.0.1:0/' "$network/node0/node.yaml"
	"$1" "$diseq" node --config "$network/node0/node.yaml" >"$log" 2>&1 &
	node=$!
	for _ in {1..300}; do
		public=$(sed -n 's/.*msg="node started" .*public=\([^ ]*\).*/\1/p' "$log")
		[[ -z $public ]] || break
		kill -0 "$node" || break
		sleep 1
	done
	if [[ -z $public ]] ||
		! echo 'from another processor' | timeout 300 "$1" "$diseq" submit -u "http://$public" --wait - >"$work/receipt.json"; then
		tail -n 20 "$log" >&2
		die 'a node for arm64 does not work under qemu'
	fi
	"$1" "$diseq" verify "$work/receipt.json" --genesis "$network/genesis.json"
	kill -INT "$node"
	wait "$node" || die "the node for arm64 ended with $?"
	node=
}
say 'linux/arm64 under qemu'
if hack/setup.sh --optional qemu-aarch64-static=qemu-user-static; then
	on_arm64 qemu-aarch64-static
else
	echo 'not checked: qemu-aarch64-static is not installed, and its package qemu-user-static cannot be installed here'
fi

say 'the base images of the Dockerfile'
# Built and then run: `go run` ends with 1 whatever the status of the program.
go -C hack/image build -buildvcs=false -o "$work/lock" ./lock
status=0
"$work/lock" -check Dockerfile || status=$?
case $status in
0) ;;
2) echo 'not checked: the base images, because a registry does not answer' ;;
3) echo 'a tag has moved on; the locked images are there' ;;
*) die 'a base image cannot be used' ;;
esac
say 'the release can be made again'
