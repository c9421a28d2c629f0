#!/usr/bin/env bash
# build.sh [--out DIR] [node|operator|base ...]: make the images diseq:dev and diseq-operator:dev of
# the Dockerfile as archives for `docker load` and `kind load image-archive`, without an engine and
# without a registry: DIR/diseq.tar and DIR/diseq-operator.tar. `base` is what they stand on, as
# DIR/diseq-base.tar; both images are made if none is named. Quick when nothing changed.
#
#   TAG      tag of the images, dev
#   VERSION  what the binaries call themselves; git describes it
#   COMMIT   the commit that the binaries name; git knows it
#   GOARCH   the images' architecture; this machine's
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

out=bin/images
images=()
while [[ $# -gt 0 ]]; do
	case $1 in
	--out)
		out=${2:?--out wants a directory}
		shift
		;;
	node | operator | base) images+=("$1") ;;
	*)
		echo "build.sh: $1: want [--out DIR] [node|operator|base ...]" >&2
		exit 2
		;;
	esac
	shift
done
[[ ${#images[@]} -gt 0 ]] || images=(node operator)

tag=${TAG:-dev}
version=${VERSION:-$(git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo devel)}
commit=${COMMIT-$(git -c safe.directory='*' rev-parse HEAD 2>/dev/null || true)}
arch=${GOARCH:-$(go env GOARCH)}
mkdir -p "$out"
out=$(cd "$out" && pwd)
binaries=$out/linux-$arch

logs=$out/logs
mkdir -p "$logs"
# shellcheck source=hack/progress.sh
source hack/progress.sh

# The tool runs here, whatever the images are for.
mkdir -p bin/tools
tool=$PWD/bin/tools/image
env -u GOARCH -u GOOS go -C hack/image build -trimpath -buildvcs=false -o "$tool" .

# binary NAME PACKAGE: as the Dockerfile compiles it. The tag leaves out what only terminals need.
binary() {
	GOFLAGS="${GOFLAGS:-} -tags=nodashboard" CGO_ENABLED=0 GOOS=linux GOARCH=$arch go_build "$1" . "$binaries/$1" "-s -w -X main.version=$version -X main.commit=$commit" "$2"
}

for image in "${images[@]}"; do
	case $image in
	node)
		name=diseq
		binary diseq ./cmd/diseq
		;;
	operator)
		name=diseq-operator
		binary diseq-operator ./cmd/operator
		;;
	base)
		"$tool" --arch "$arch" --tag "diseq-base:$tag" --out "$out/diseq-base.tar"
		continue
		;;
	esac
	"$tool" --target "$image" --from "$binaries" --arch "$arch" --build-arg "VERSION=$version" --build-arg "COMMIT=$commit" \
		--tag "$name:$tag" --out "$out/$name.tar"
done
