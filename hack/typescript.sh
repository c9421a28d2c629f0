#!/usr/bin/env bash
# typescript.sh: check the types of the TypeScript client, build it, and test it, also against a network
# of the program in DISEQ.
#
# Node.js and npm are Debian's. Where that Node.js is older than the client needs, the pinned one of
# hack/tools/node is used. npm's packages are those of the lock file, by their hashes; no script of a
# package runs. Nothing is installed again until a lock file changes.
#
# One test runs in Debian's Chromium. Where that cannot be installed or does not start, the phase names
# the test that is left out.
#
# Where Node.js or npm's registry is missing, the phase says so and passes: see hack/phase.sh.
#
#   TYPESCRIPT_PACK     a folder: check and build alone, and pack the npm package into it
#   TYPESCRIPT_VERSION  the version of that package; package.json is changed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# left_out REASON: end the phase without the tests.
left_out() {
	if [[ -n ${TYPESCRIPT_PACK:-} ]]; then
		echo "$1"
		exit 0
	fi
	echo "the TypeScript client is not tested: $1"
	[[ -z ${DISEQ_SKIPPED:-} ]] || echo "client/typescript: $1" >>"$DISEQ_SKIPPED"
	exit 0
}

# install FOLDER: what its lock file names, from npm's cache if it is there. A registry that does not
# answer is a reason to leave the tests out. A lock file that does not fit is a failure.
install() {
	local stamp=$1/node_modules/.installed want log
	want="$(sha256sum <"$1/package-lock.json") $(uname -m)"
	[[ $(cat "$stamp" 2>/dev/null) == "$want" ]] && return
	log=$(mktemp)
	# npm looks for the machine's configuration below --prefix, and does not find it there.
	if ! (cd "$1" && npm ci --prefer-offline --no-audit --no-fund) >"$log" 2>&1; then
		if npm view @noble/hashes version >/dev/null 2>&1; then
			cat "$log" >&2
			exit 1
		fi
		rm "$log"
		left_out "npm's registry does not answer, and the packages are not in npm's cache"
	fi
	rm "$log"
	echo "$want" >"$stamp"
}

# old_node: whether the Node.js in PATH is older than 20.19, from which on ESM and the test runner work.
old_node() {
	[[ ${TYPESCRIPT_PINNED_NODE:-} == 1 ]] || ! node -e '
		const [major, minor] = process.versions.node.split(".").map(Number);
		process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)'
}

# Node.js has a list of authorities of its own. The machine's own list counts as well, as for all else.
authorities=/etc/ssl/certs/ca-certificates.crt
if [[ -r $authorities ]]; then export NODE_EXTRA_CA_CERTS=${NODE_EXTRA_CA_CERTS:-$authorities}; fi

hack/setup.sh --optional node=nodejs npm=npm || left_out 'Node.js and npm are not installed, and their packages cannot be installed here'
echo "Node.js $(node --version), npm $(npm --version)"
install client/typescript
path_of_npm=$PATH
if old_node; then
	install hack/tools/node
	# From here on only: Debian's npm finds its modules with Debian's Node.js alone.
	for bin in "$root"/hack/tools/node/node_modules/node-linux-*/bin; do
		[[ -x $bin/node ]] || left_out "Node.js $(node --version) is older than 20.19, and there is no newer one for $(uname -m)"
		PATH=$bin:$PATH
	done
	echo "Node.js $(node --version) for the tests"
fi

without_browser() {
	chromium=
	echo "the TypeScript client is not tested in a browser: $1"
	[[ -z ${DISEQ_SKIPPED:-} ]] || echo "client/typescript, in a browser: $1" >>"$DISEQ_SKIPPED"
}

# starts BROWSER: whether it shows an empty page here. Some containers forbid what it needs.
starts() {
	local profile status=0
	profile=$(mktemp -d)
	timeout --kill-after=5 60 "$1" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$profile" \
		--dump-dom about:blank >/dev/null 2>&1 || status=$?
	rm -rf "$profile"
	return "$status"
}

# Debian's package is one of many megabytes. Any of these serves.
if [[ -z ${TYPESCRIPT_PACK:-} ]]; then
	chromium=$(command -v chromium chromium-browser google-chrome | head -1) || true
	if [[ -z $chromium ]]; then
		hack/setup.sh --optional chromium=chromium || without_browser 'Chromium is not installed, and its package cannot be installed here'
		chromium=$(command -v chromium) || true
	fi
	[[ -z $chromium ]] || starts "$chromium" || without_browser "$chromium does not start here"
fi

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
