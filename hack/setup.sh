#!/usr/bin/env bash
# setup.sh [--optional] COMMAND=PACKAGE...: make sure that each command exists, installing its
# Debian package if it does not. Quick when there is nothing to do. With --optional, a command that
# cannot be installed gives exit status 3 and no error message: the caller reports the tests that it
# leaves out.
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
# A fresh machine has no package lists; one that has them need not fetch them again.
if ! apt-get install -y --no-install-recommends "${missing[@]}"; then
	apt-get update || give_up "apt-get update failed"
	apt-get install -y --no-install-recommends "${missing[@]}" || give_up "apt-get install failed"
fi
