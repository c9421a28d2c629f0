# npm.sh: sourced by the scripts that use Node.js, from the root of the repository. They set npm_subject to the name of
# all that they test.
#
#   npm_prepare FOLDER...  Node.js, npm and the packages of each FOLDER are there; otherwise the script ends, successfully,
#                          and says that nothing is tested: see hack/phase.sh. path_of_npm is the PATH for npm
#   npm_chromium           sets chromium to a browser that starts here; empty without one, which is said as well
#
# Node.js and npm are Debian's. Where that Node.js is too old, the pinned one of hack/tools/node is used. npm's packages
# are those of a lock file, by their hashes; no script of a package runs. Nothing is installed again until a lock file
# changes.
# shellcheck shell=bash

: "${npm_subject:?set it to the name of what is tested}"

# npm_left_out REASON: end the script without the tests.
npm_left_out() {
	if [[ -n ${TYPESCRIPT_PACK:-} ]]; then
		echo "$1"
		exit 0
	fi
	echo "$npm_subject: not tested: $1"
	[[ -z ${DISEQ_SKIPPED:-} ]] || echo "$npm_subject: $1" >>"$DISEQ_SKIPPED"
	exit 0
}

# npm_install FOLDER: what its lock file names, from npm's cache if it is there. A registry that does not
# answer is a reason to leave the tests out. A lock file that does not fit is a failure.
npm_install() {
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
		npm_left_out "npm's registry does not answer, and the packages are not in npm's cache"
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

npm_prepare() {
	# Node.js has a list of authorities of its own. The machine's own list counts as well, as for all else.
	local authorities=/etc/ssl/certs/ca-certificates.crt folder bin
	if [[ -r $authorities ]]; then export NODE_EXTRA_CA_CERTS=${NODE_EXTRA_CA_CERTS:-$authorities}; fi
	hack/setup.sh --optional node=nodejs npm=npm ||
		npm_left_out 'Node.js and npm are not installed, and their packages cannot be installed here'
	echo "Node.js $(node --version), npm $(npm --version)"
	for folder; do npm_install "$folder"; done
	# shellcheck disable=SC2034 # the scripts read it
	path_of_npm=$PATH
	old_node || return 0
	npm_install hack/tools/node
	# From here on only: Debian's npm finds its modules with Debian's Node.js alone.
	for bin in "$PWD"/hack/tools/node/node_modules/node-linux-*/bin; do
		[[ -x $bin/node ]] || npm_left_out "Node.js $(node --version) is older than 20.19, and there is no newer one for $(uname -m)"
		PATH=$bin:$PATH
	done
	echo "Node.js $(node --version) for the tests"
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

npm_without_browser() {
	chromium=
	echo "$npm_subject: not tested in a browser: $1"
	[[ -z ${DISEQ_SKIPPED:-} ]] || echo "$npm_subject, in a browser: $1" >>"$DISEQ_SKIPPED"
}

# Debian's package is one of many megabytes. Any of these serves.
npm_chromium() {
	chromium=$(command -v chromium chromium-browser google-chrome | head -1) || true
	if [[ -z $chromium ]]; then
		hack/setup.sh --optional chromium=chromium || npm_without_browser 'Chromium is not installed, and its package cannot be installed here'
		chromium=$(command -v chromium) || true
	fi
	[[ -z $chromium ]] || starts "$chromium" || npm_without_browser "$chromium does not start here"
}
