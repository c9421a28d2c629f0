#!/usr/bin/env bash
# lock-images.sh [--check]: write the present digests of the base images into the ARG lines of the
# Dockerfile, which are the lock: name:tag says what was meant, and the digest which it was. With
# --check, only say which tags have moved on: exit status 1 then. Asks the registries; 2 if one of
# them cannot be reached.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

types='application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json'

# digest NAME:TAG: that of the index of all architectures, as its registry has it now.
digest() {
	local name=${1%:*} tag=${1##*:} host headers=()
	case $name in
	*.*/*) host=${name%%/*} name=${name#*/} ;;
	*)
		host=registry-1.docker.io
		[[ $name == */* ]] || name=library/$name
		local token
		token=$(curl -fsS --max-time 30 "https://auth.docker.io/token?service=registry.docker.io&scope=repository:$name:pull" |
			sed 's/.*"token" *: *"\([^"]*\)".*/\1/')
		headers=(-H "Authorization: Bearer $token")
		;;
	esac
	curl -fsSI --max-time 30 "${headers[@]}" -H "Accept: $types" "https://$host/v2/$name/manifests/$tag" |
		tr -d '\r' | sed -n 's/^[Dd]ocker-[Cc]ontent-[Dd]igest: //p'
}

moved=0
while read -r argument image; do
	now=$(digest "${image%@*}") || now=
	if [[ ! $now =~ ^sha256:[0-9a-f]{64}$ ]]; then
		echo "lock-images.sh: the registry of ${image%@*} does not say its digest" >&2
		exit 2
	fi
	[[ $image != "${image%@*}@$now" ]] || continue
	moved=1
	echo "$argument: ${image%@*} is $now, the Dockerfile has ${image#*@}"
	[[ ${1:-} == --check ]] || sed -i "s|^ARG $argument=.*|ARG $argument=${image%@*}@$now|" Dockerfile
done < <(sed -n 's/^ARG \([A-Z]*_IMAGE\)=\(.*\)/\1 \2/p' Dockerfile)
[[ ${1:-} != --check ]] || exit "$moved"
