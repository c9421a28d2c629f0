#!/usr/bin/env bash
# test-arrows.sh LINTER: hold .golangci.yml to the arrows of the architecture. Makes a module of
# empty packages with, for each arrow below, a package under its origin that does nothing but import
# its target; lints it with the repository's rules; and compares what is reported with what must be.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

linter=$1
module=github.com/diseq/diseq

# From, what it imports, and whether the rules must refuse it. A path without a dot is a package of
# this module, one that begins with std: of the standard library.
arrows() {
	cat <<-'END'
		node/chain          node/vrf                          refused
		node/chain          node/store                        refused
		node/chain          std:crypto/sha256                 allowed
		node/consensus      node/chain                        allowed
		node/consensus      node/internal/mutation            allowed
		node/consensus      node/simulation                   refused
		node/consensus      node/store                        refused
		node/consensus      node/peer                         refused
		node/consensus      node/server                       refused
		node/consensus      client                            refused
		node/consensus      std:os                            refused
		node/consensus      std:net/http                      refused
		node/consensus      std:log/slog                      refused
		node/consensus      std:math/rand/v2                  refused
		node/consensus      std:slices                        allowed
		node/consensus      github.com/spf13/cobra            refused
		node/vrf            node/vrf/internal/circuit         allowed
		node/vrf            node/trie                         refused
		node/vrf            github.com/consensys/gnark        allowed
		node/identity       node/chain                        allowed
		node/identity       node/vrf                          allowed
		node/identity       node/store                        refused
		node/identity       node                              refused
		node/trie           node/store                        refused
		node/trie           std:crypto/sha256                 allowed
		node/mempool        node/chain                        allowed
		node/mempool        node/store                        refused
		node/mempool        node/peer                         refused
		node/store          node/chain                        allowed
		node/store          node/trie                         refused
		node/store          node/internal/sqlitefile          allowed
		node/store          modernc.org/sqlite                refused
		node/trie           node/internal/sqlitefile          allowed
		node/internal/sqlitefile modernc.org/sqlite           allowed
		node/internal/sqlitefile node/chain                   refused
		node/store          node/consensus                    refused
		node/peer           node/chain                        allowed
		node/peer           node/peer/peerpb                  allowed
		node/peer           node/mempool                      refused
		node/peer           node                              refused
		node/server         node/chain                        allowed
		node/server         node/trie                         allowed
		node/server         node/store                        refused
		node/server         node/mempool                      refused
		node/simulation     node/consensus                    allowed
		node/simulation     node/internal/mutation            allowed
		node/simulation     node/store                        refused
		node/internal/mutation node/chain                     refused
		node/simulation     k8s.io/api/core                  refused
		node                node/consensus                    allowed
		node                node/server                       allowed
		node                controllers                       refused
		node                cmd/diseq                         refused
		node                api/v1alpha1                      refused
		node                k8s.io/client-go/kubernetes       refused
		node                sigs.k8s.io/controller-runtime    refused
		node                sigs.k8s.io/yaml                  allowed
		client              node/chain                        allowed
		client              node/trie                         allowed
		client              node                              refused
		client              node/server                       refused
		client              k8s.io/api/core                  refused
		cmd/diseq           node                              allowed
		cmd/diseq           client                            allowed
		api/v1alpha1        k8s.io/api/core                  allowed
		api/v1alpha1        node/chain                        refused
		controllers         controllers/nodeclient            allowed
		controllers         k8s.io/api/core                  allowed
		controllers         api/v1alpha1                      allowed
		controllers         node/chain                        allowed
		controllers         node/consensus                    allowed
		controllers         node/identity                     allowed
		controllers         node/vrf                          refused
		controllers         node/peer                         refused
		controllers         node/store                        refused
		controllers         node                              refused
		controllers         client                            refused
		controllers         cmd/operator                      refused
		controllers/resources  node/identity                  allowed
		controllers/resources  node                           refused
		controllers/status  node/chain                        allowed
		controllers/status  node/server                       refused
		controllers/nodeclient  client                        allowed
		controllers/nodeclient  node/chain                    allowed
		controllers/nodeclient  node/identity                 refused
		controllers/nodeclient  node/server                   refused
	END
}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
printf 'module %s\n\ngo 1.26\n' "$module" >"$tree/go.mod"
cp .golangci.yml "$tree/"

# empty DIR: the package that an arrow points at.
empty() {
	mkdir -p "$tree/$1"
	printf 'package target\n' >"$tree/$1/target.go"
}

number=0
while read -r from to verdict; do
	number=$((number + 1))
	case $to in
	std:*) target=${to#std:} ;;
	*.*)
		target=$to
		empty "third/$to"
		printf 'module %s\n' "$to" >"$tree/third/$to/go.mod"
		printf 'require %s v0.0.0\nreplace %s => ./third/%s\n' "$to" "$to" "$to" >>"$tree/go.mod"
		;;
	*)
		target=$module/$to
		empty "$to"
		;;
	esac
	file=$from/arrow$number/arrow.go
	mkdir -p "$tree/$from/arrow$number"
	printf 'package arrow\n\nimport _ "%s"\n' "$target" >"$tree/$file"
	[[ $verdict == allowed ]] || echo "$file depguard $from -> $to"
done < <(arrows) >"$tree/expected"

# A test file of consensus may open files, its code may not read a clock.
empty node/consensus
printf 'package target\n\nimport _ "os"\n' >"$tree/node/consensus/clock_test.go"
printf 'package target\n\nimport "time"\n\nfunc clock() time.Time { return time.Now() }\n' >"$tree/node/consensus/clock.go"
echo "node/consensus/clock.go forbidigo" >>"$tree/expected"
printf 'package target\n\nimport "time"\n\nfunc clock() time.Time { return time.Now() }\n' >"$tree/node/store/clock.go"

# Exit status 1 is what findings give; anything else is the linter's own failure.
status=0
(cd "$tree" && GOFLAGS=-mod=mod GOPROXY=off "$linter" run --enable-only depguard,forbidigo \
	--output.text.path=stdout --output.text.colors=false --output.text.print-issued-lines=false ./...) \
	>"$tree/report" 2>"$tree/errors" || status=$?
if [[ $status -ne 1 ]]; then
	echo "import rules: the linter ended with $status" >&2
	cat "$tree/report" "$tree/errors" >&2
	exit 1
fi
sed -nE 's/^([^:]+):[0-9]+:[0-9]+: .*\((depguard|forbidigo)\)$/\1 \2/p' "$tree/report" | sort -u >"$tree/reported"

failed=false
while read -r file linter_name; do
	if ! grep -q "^$file $linter_name\b" "$tree/expected"; then
		failed=true
		echo "import rules: refused, and should not be: $file: $(tail -n 1 "$tree/$file")" >&2
	fi
done <"$tree/reported"
while read -r file linter_name arrow; do
	if ! grep -q "^$file $linter_name$" "$tree/reported"; then
		failed=true
		echo "import rules: not refused: ${arrow:-$file, $linter_name}" >&2
	fi
done <"$tree/expected"
if $failed; then
	cat "$tree/errors" >&2
	exit 1
fi
echo "import rules: $number arrows hold, $(wc -l <"$tree/reported") of them refusals"
