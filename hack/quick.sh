#!/usr/bin/env bash
# quick.sh: the checks of a change, in about a minute: format, vet, the unit tests of the packages
# that changed and of those that import them (with -short), the transcripts of consensus, the arrows
# between packages, plain words, shellcheck. `make test` has the rest. The change is all that differs
# from BASE, uncommitted files included.
#
#   BASE        the commit to compare with: where this branch left main, or the last commit on main
#   KIND_PKGS   the packages of hack/kind/go to vet
#   TESTFLAGS   flags for go test
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

git() { command git -c safe.directory='*' "$@"; }
base=${BASE:-$(git merge-base HEAD main 2>/dev/null || git merge-base HEAD origin/main 2>/dev/null || git rev-parse HEAD)}
read -ra testflags <<<"${TESTFLAGS:-}"
read -ra kind_packages <<<"${KIND_PKGS:-./follow ./podnet ./volumes}"

mapfile -t changed < <({
	git diff --name-only "$base" --
	git ls-files --others --exclude-standard
} | sort -u)
echo "${#changed[@]} files differ from $(git log -1 --format='%h, %s' "$base")"
[[ ${#changed[@]} -gt 0 ]] || exit 0

# changed_packages: the packages that hold the changed files, also those below testdata; all of them
# if the requirements of the module changed.
changed_packages() {
	local file dir
	declare -A package=()
	while read -r dir file; do package[${dir#"$PWD"/}]=$file; done < <(go list -f '{{.Dir}} {{.ImportPath}}' ./...)
	for file in "${changed[@]}"; do
		case $file in
		go.mod | go.sum) printf '%s\n' "${package[@]}" ;;
		esac
		dir=$file
		while [[ $dir == */* && -z ${package[${dir%/*}]:-} ]]; do dir=${dir%/*}; done
		if [[ $dir == */* ]]; then echo "${package[${dir%/*}]}"; fi
	done | sort -u
}

# importers PACKAGE...: these packages, and all that need one of them, if only for their tests.
importers() {
	go list -test -f '{{.ImportPath}} {{join .Deps " "}}' ./... | awk -v packages="$*" '
		BEGIN { for (n = split(packages, list, " "); n > 0; n--) changed[list[n]] = 1 }
		$2 ~ /^\[/ { next } # built for a test: "NAME.test" lists what that needs
		{
			name = $1
			sub(/\.test$/, "", name)
			if (name in changed) affected[name] = 1
			for (i = 2; i <= NF; i++) if ($i in changed) affected[name] = 1
		}
		END { for (name in affected) print name }' | sort
}

unit_packages() { grep -v -e '^$' -e '/test/' -e '/node/simulation$'; }

echo 'format'
hack/check-format.sh

mapfile -t packages < <(changed_packages)
affected=()
if [[ ${#packages[@]} -gt 0 ]]; then mapfile -t affected < <(importers "${packages[@]}"); fi
mapfile -t unit < <(printf '%s\n' "${affected[@]}" | unit_packages)
echo "vet: ${#affected[@]} packages, of which ${#packages[@]} changed"
[[ ${#affected[@]} -eq 0 ]] || go vet "${affected[@]}"
echo "unit tests: ${#unit[@]} packages"
[[ ${#unit[@]} -eq 0 ]] || go test -short -timeout 5m "${testflags[@]}" "${unit[@]}"
echo 'transcripts, arrows between packages, plain words'
go test "${testflags[@]}" -run Transcripts ./node/consensus
go test "${testflags[@]}" ./test/house ./test/prose

# touched FOLDER: whether a changed file is in it.
touched() { printf '%s\n' "${changed[@]}" | grep -q "^$1/"; }
for module in hack/image hack/release hack/tools test/bench/peers; do
	if touched "$module"; then go -C "$module" vet ./... && go -C "$module" test "${testflags[@]}" ./...; fi
done
if touched hack/kind/go; then
	go -C hack/kind/go vet "${kind_packages[@]}"
	go -C hack/kind/go test "${testflags[@]}" "${kind_packages[@]}"
fi
if touched client/typescript; then hack/typescript.sh; fi
if touched client/typescript || touched client/explorer || touched node/server/explorer; then hack/explorer.sh; fi
mapfile -t scripts < <(printf '%s\n' "${changed[@]}" | grep -e '\.sh$' -e '^\.ci/run$' | while read -r file; do
	if [[ -e $file ]]; then echo "$file"; fi
done)
if [[ ${#scripts[@]} -gt 0 ]] && command -v shellcheck >/dev/null; then
	echo "shellcheck: ${#scripts[@]} scripts"
	shellcheck --external-sources "${scripts[@]}"
fi
