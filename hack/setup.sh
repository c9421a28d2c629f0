#!/usr/bin/env bash
# setup.sh [--optional] COMMAND=PACKAGE...: install the Debian package of each command that is
# missing. Quick when there is nothing to do. With --optional, a package that cannot be installed is
# exit status 3 without a message: the caller says what it leaves out.
set -euo pipefail

optional=false
if [[ ${1:-} == --optional ]]; then
	optional=true
	shift
fi

missing=()
for pair in "$@"; do
	command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

give_up() {
	$optional && exit 3
	echo "missing: ${missing[*]}; $1" >&2
	exit 1
}
command -v apt-get >/dev/null || give_up "install them with this system's package tool"
[[ $(id -u) -eq 0 ]] || give_up "install them, for instance: sudo apt-get install ${missing[*]}"

echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Package lists are fetched only where they are missing, as on a fresh machine.
if ! apt-get install -y --no-install-recommends "${missing[@]}"; then
	apt-get update || give_up "apt-get update failed"
	apt-get install -y --no-install-recommends "${missing[@]}" || give_up "apt-get install failed"
fi
