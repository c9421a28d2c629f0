#!/usr/bin/env bash
# prometheus.sh: print the folder of the programs prometheus and promtool, which are Debian's. The package
# is unpacked below bin/tools and not installed: its installation would start a server on this machine.
# Where the programs are in PATH already, those are used.
#
# Exit status 3 without a message: they are not there, and cannot be fetched here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$PWD/${TOOLS_BIN:-bin/tools}
[[ ${TOOLS_BIN:-} != /* ]] || folder=$TOOLS_BIN

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
	dirname "$(command -v promtool)"
	exit
fi
into=$folder/prometheus
if [[ -x $into/usr/bin/promtool && -x $into/usr/bin/prometheus ]]; then
	echo "$into/usr/bin"
	exit
fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || exit 3

mkdir -p "$folder"
work=$(mktemp -d "$folder/prometheus.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # for the user that apt fetches as
echo 'fetching prometheus and promtool, 19 MB' >&2
fetch() { (cd "$work" && apt-get download prometheus) >/dev/null 2>"$work/errors"; }
# Package lists are fetched only where they are missing, as on a fresh machine.
fetch || { [[ $(id -u) -eq 0 ]] && apt-get update >/dev/null 2>&1 && fetch; } || exit 3
dpkg-deb --extract "$work"/prometheus_*.deb "$work/root"
rm -rf "$into"
mv "$work/root" "$into"
echo "$into/usr/bin"
