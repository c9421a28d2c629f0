#!/usr/bin/env bash
# explorer.sh [build|pictures]: check the explorer: its types, that the page in node/server/explorer is the one that
# its sources make, and its tests in a browser, on a network of the program in DISEQ.
#
#   build     write that page, and test nothing
#   pictures  write the pictures of docs/explorer.md
#
# Where Node.js, npm's registry or Chromium is missing, it says so and passes: see hack/npm.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck disable=SC2034 # hack/npm.sh reads it
npm_subject=client/explorer
# shellcheck source=hack/npm.sh
source hack/npm.sh

# The page holds the client, whose libraries are in its own folder.
npm_prepare client/typescript client/explorer
[[ ${1:-} == build ]] || npm_chromium
root=$PWD
cd client/explorer
bin=node_modules/.bin
"$bin/tsc" --noEmit
case ${1:-} in
build)
	"$bin/vite" build
	exit
	;;
pictures)
	PICTURES=$root/docs/pictures DISEQ=${DISEQ:?} CHROMIUM=${chromium:?} "$bin/vitest" run pictures
	exit
	;;
esac
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
EXPLORER_OUT=$built "$bin/vite" build --logLevel warn
if ! diff --recursive --brief "$built" "$root/node/server/explorer/page" >&2; then
	echo 'node/server/explorer/page is not the page that client/explorer makes. Run: make explorer' >&2
	exit 1
fi
CHROMIUM=$chromium DISEQ=${DISEQ:-} "$bin/vitest" run --exclude '**/pictures.test.ts' "$@"
