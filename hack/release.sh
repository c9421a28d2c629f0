#!/usr/bin/env bash
# release.sh [--out DIR] [COMMIT]: make every file of a release from a commit, HEAD if none is named:
# the folder that `git archive` exports, and nothing that lies about in the working tree. The files go
# to DIR, bin/release, whose earlier content is removed. docs/release.md lists them.
#
#   VERSION      the name of the release; git describes the commit
#   RELEASE_URL  the folder on the web from which krew fetches the archives
#   IMAGES       the repository that the images are named for, such as ghcr.io/diseq
#
# It needs Go and its module proxy, and for the npm package Node.js and npm's registry. Without those
# it says so, and SHA256SUMS lacks the package. The same commit makes the same bytes with the same
# versions of Go and Node.js, which BUILD names: no time but the commit's and no path gets into a file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=bin/release commit=
while [[ $# -gt 0 ]]; do
	case $1 in
	--out)
		out=${2:?--out wants a directory}
		shift
		;;
	-*)
		echo "release.sh: $1: want [--out DIR] [COMMIT]" >&2
		exit 2
		;;
	*) commit=$1 ;;
	esac
	shift
done

git() { command git -c safe.directory='*' "$@"; }
if [[ -z $commit ]]; then
	commit=HEAD
	[[ -z $(git status --porcelain) ]] || echo 'release.sh: changes that are not committed are left out'
fi
commit=$(git rev-parse --verify "$commit^{commit}")
VERSION=${VERSION:-$(git describe --tags --always "$commit")}
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
export VERSION SOURCE_DATE_EPOCH COMMIT=$commit CGO_ENABLED=0 GOFLAGS=-trimpath GOWORK=off
unset GOOS GOARCH GOAMD64 GOARM64 GOEXPERIMENT GOFIPS140
IMAGES=${IMAGES:-ghcr.io/diseq}
RELEASE_URL=${RELEASE_URL:-https://github.com/diseq/diseq/releases/download/$VERSION}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
logs=$work/logs
mkdir -p "$logs" "$work/source" "$work/new"
# shellcheck source=hack/progress.sh
source hack/progress.sh

say "release $VERSION of commit $commit"
git archive "$commit" | tar --extract --directory "$work/source"
rm -rf "$out"
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$work/source"
new=$work/new # becomes $out when all is there

go -C hack/release build -buildvcs=false -o "$work/tools/release" .
go -C hack/release build -buildvcs=false -o "$work/tools/sbom" ./sbom
go -C hack/image build -buildvcs=false -o "$work/tools/image" .
release() { "$work/tools/release" "$@"; }
semver=$(release version "$VERSION" "$commit")

# The operator runs in clusters, from its image. Every other command is for people's machines.
commands=() packages=()
for dir in cmd/*/; do
	name=$(basename "$dir")
	[[ $name != operator ]] || continue
	commands+=("$name")
	packages+=("./cmd/$name")
done

flags="-s -w -X main.version=$VERSION -X main.commit=$commit"
for os in linux darwin; do
	for arch in amd64 arm64; do
		say "${commands[*]} for $os/$arch"
		to=$work/binaries/$os-$arch
		mkdir -p "$to"
		GOOS=$os GOARCH=$arch go_build "$os-$arch" . "$to/" "$flags" "${packages[@]}"
		if [[ $os == linux ]]; then
			say "diseq-operator for $os/$arch"
			GOOS=$os GOARCH=$arch go_build "operator-$arch" . "$to/diseq-operator" "$flags" ./cmd/operator
		fi
		for name in "${commands[@]}"; do
			release pack -time "$SOURCE_DATE_EPOCH" "$new/${name}_${VERSION}_${os}_$arch.tar.gz" "$name=$to/$name" LICENSE=LICENSE
		done
		"$work/tools/sbom" --version "$VERSION" --sums go.sum "$to"/* >"$logs/sbom-$os-$arch.log"
		for bill in "$to"/*.cdx.json; do
			name=$(basename "$bill" .cdx.json)
			cp "$bill" "$new/${name}_${VERSION}_${os}_$arch.cdx.json"
		done
	done
done

say 'the images, each for linux/amd64 and linux/arm64'
for image in node=diseq operator=diseq-operator; do
	name=${image#*=}
	"$work/tools/image" --target "${image%=*}" --oci amd64,arm64 --from "$work/binaries" --build-arg "VERSION=$VERSION" \
		--build-arg "COMMIT=$commit" --tag "$IMAGES/$name:$VERSION" --out "$new/${name}_${VERSION}_oci.tar"
done

say 'the Helm chart'
if [[ -z ${HELM:-} ]]; then
	HELM=$work/tools/helm
	go_build helm hack/tools/helm "$HELM" '' helm.sh/helm/v4/cmd/helm
fi
# The chart names the images of this release.
HOME=$work "$HELM" package charts/diseq-operator --version "$semver" --app-version "$VERSION" --destination "$new" >"$logs/helm.log"
release repack -time "$SOURCE_DATE_EPOCH" "$new/diseq-operator-$semver.tgz"

plugins=("$new"/kubectl-diseq_*.tar.gz)
if [[ -e ${plugins[0]} ]]; then
	release krew -version "$semver" -url "$RELEASE_URL" "$new/krew_diseq.yaml" "${plugins[@]}"
else
	say 'there is no cmd/kubectl-diseq: the release has no plugin for kubectl'
fi

say 'the npm package'
node=none
TYPESCRIPT_PACK=$new TYPESCRIPT_VERSION=$semver hack/typescript.sh >"$logs/npm.log" 2>&1 || {
	cat "$logs/npm.log" >&2
	die 'the npm package cannot be made'
}
package=$new/diseq-client-$semver.tgz
if [[ -e $package ]]; then
	release repack -time "$SOURCE_DATE_EPOCH" "$package"
	node=$(grep -o '^Node.js.*' "$logs/npm.log")
else
	say "the npm package is left out: $(tail -n 1 "$logs/npm.log")"
fi

cat >"$new/BUILD" <<-END
	version            $VERSION
	commit             $commit
	SOURCE_DATE_EPOCH  $SOURCE_DATE_EPOCH
	Go                 $(go env GOVERSION)
	npm package        $node
END
release sums "$new"
mv "$new"/* "$out/"
say "done: $(find "$out" -type f | wc -l) files, $(du -sh "$out" | cut -f 1), in $out"
