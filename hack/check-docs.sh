#!/usr/bin/env bash
# check-docs.sh: fail when a document names a test that does not exist or a relative link, or the
# heading it points to, that is not there. Tests are named as `package.Test`, such as
# `node/chain.TestVectors`; links in code are not looked at.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t documents < <(git -c safe.directory='*' ls-files --cached --others --exclude-standard -- '*.md')

status=0
wrong() {
	echo "$*" >&2
	status=1
}

# headings prints the anchors of a document as GitHub makes them; prose prints it without fenced
# code and code spans.
headings() {
	awk '/^```/ { code = !code } !code && /^#+ / { sub(/^#+ /, ""); print tolower($0) }' "$1" | sed 's/[^a-z0-9 _-]//g; s/ /-/g'
}
prose() {
	# shellcheck disable=SC2016 # a back-quote of Markdown, not of the shell
	awk '/^```/ { code = !code; next } !code' "$1" | sed 's/`[^`]*`//g' | tr '\n' ' '
}

tests=0 links=0
for document in "${documents[@]}"; do
	[[ -e $document ]] || continue
	while IFS= read -r name; do
		package=${name%%.*} test=${name#*.}
		tests=$((tests + 1))
		grep -qsE "^func $test\(" "$package"/*_test.go || wrong "$document: there is no test $test in $package"
	done < <(grep -oE '[a-z0-9/]+\.(Test|Fuzz|Benchmark)[A-Za-z0-9_]+' "$document" | sort -u)

	while IFS= read -r link; do
		[[ $link =~ ^[a-z]+: ]] && continue
		links=$((links + 1))
		path=${link%%#*} anchor=
		[[ $link == *'#'* ]] && anchor=${link#*#}
		target=$document
		[[ -n $path ]] && target=$(dirname "$document")/$path
		if [[ ! -e $target ]]; then
			wrong "$document: nothing at $link"
		elif [[ -n $anchor ]] && ! grep -qxF -- "$anchor" <(headings "$target"); then
			wrong "$document: no heading for $link"
		fi
	done < <(prose "$document" | grep -oE '\]\([^) ]+\)' | sed 's/^](//; s/)$//' | sort -u)
done
echo "${#documents[@]} documents: $tests tests named, $links relative links"
exit "$status"
