#!/usr/bin/env bash
# typescript.sh: check the types of the TypeScript client, build it, and test it, also against a network
# of the program in DISEQ.
#
# One test runs in Debian's Chromium. Where that cannot be installed or does not start, the phase names
# the test that is left out. Where Node.js or npm's registry is missing, the phase says so and passes: see
# hack/npm.sh.
#
#   TYPESCRIPT_PACK     a folder: check and build alone, and pack the npm package into it
#   TYPESCRIPT_VERSION  the version of that package; package.json is changed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck disable=SC2034 # hack/npm.sh reads it
npm_subject=client/typescript
# shellcheck source=hack/npm.sh
source hack/npm.sh

npm_prepare client/typescript
if [[ -z ${TYPESCRIPT_PACK:-} ]]; then npm_chromium; fi

cd client/typescript
bin=node_modules/.bin
"$bin/tsc" --noEmit
"$bin/tsc" --project test
rm -rf dist
"$bin/tsc" --project tsconfig.build.json
if [[ -n ${TYPESCRIPT_PACK:-} ]]; then
	PATH=$path_of_npm
	npm pkg set version="${TYPESCRIPT_VERSION:?set it to the version of the package}"
	npm pack --ignore-scripts --pack-destination "$TYPESCRIPT_PACK"
	exit 0
fi
CHROMIUM=$chromium DISEQ=${DISEQ:-} "$bin/vitest" run "$@"
