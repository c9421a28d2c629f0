#!/usr/bin/env bash
# devnet-demo.sh: the whole round on a network of four processes, without a cluster: start, submit,
# verify a receipt with nothing but the genesis document, see a forged one refused, follow the
# stream, stop. DISEQ is the binary; `make devnet-demo` builds it first. If STARTED is a time, as
# date +%s prints it, the seconds count from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/devnet.sh
source hack/devnet.sh

if [[ -n ${STARTED:-} ]]; then SECONDS=$(($(date +%s) - STARTED)); fi
: "${DISEQ:?set DISEQ to the binary, or run: make devnet-demo}"
dir=$(mktemp -d)
devnet_cleanup_on_exit "$dir"

step() { printf '\n[%4ds] %s\n' "$SECONDS" "$*"; }
fail() {
	echo "devnet-demo: $*" >&2
	tail -n 20 "$dir/devnet.log" >&2
	exit 1
}

step "starting 4 validators, of which 3 must sign"
devnet_start "$dir"
printf 'node at %s\n' "${devnet_urls[@]}"

# The time makes each run's messages new: equal bytes are one message for ever.
for i in 1 2 3; do
	echo "demo message $i of $(date +%s.%N)"
done >"$dir/messages"
step "submitting 3 messages and waiting until they are final"
timeout 60 "$DISEQ" submit -u "${devnet_urls[0]}" --lines --wait "$dir/messages" >"$dir/receipts" || fail "submit failed"
[[ -s $dir/receipts ]] || fail "submit --wait printed no receipt"

step "submitting the same to another node: the same three messages, known by their ids"
timeout 60 "$DISEQ" submit -u "${devnet_urls[1]}" --lines "$dir/messages" >"$dir/ids" || fail "submit failed"
cat "$dir/ids"
[[ $(wc -l <"$dir/ids") -eq 3 ]] || fail "expected 3 ids, one a line"

step "fetching the receipt of the first from a third node"
first=$(head -n 1 "$dir/ids")
for _ in {1..50}; do
	# That node may still be a block behind the one that answered.
	"$DISEQ" get -u "${devnet_urls[2]}" receipt "$first" >"$dir/receipt.json" 2>"$dir/verdict" && break
	sleep 0.2
done
[[ -s $dir/receipt.json ]] || fail "no receipt: $(cat "$dir/verdict")"
echo "a receipt of $(wc -c <"$dir/receipt.json") bytes"

step "verifying a receipt offline, with the genesis document alone"
"$DISEQ" verify "$dir/receipt.json" --genesis "$dir/genesis.json" || fail "a true receipt was refused"

step "changing one letter of the message in that receipt"
sed -E 's/"data": *"Z/"data":"Y/' "$dir/receipt.json" >"$dir/forged.json"
! cmp -s "$dir/receipt.json" "$dir/forged.json" || fail "the forgery is no different from the original"
if "$DISEQ" verify "$dir/forged.json" --genesis "$dir/genesis.json" >"$dir/verdict" 2>&1; then
	fail "a forged receipt was accepted"
fi
echo "refused, as it must be: $(tail -n 1 "$dir/verdict")"

step "following the stream of another node from the first block"
status=0
timeout 5 "$DISEQ" tail -u "${devnet_urls[3]}" --from 1 >"$dir/stream" || status=$?
[[ $status -eq 0 || $status -eq 124 || $status -eq 130 ]] || fail "tail ended with $status"
[[ -s $dir/stream ]] || fail "the stream was empty"
head -n 5 "$dir/stream" | cut -c -140

step "stopping"
devnet_stop || fail "the network did not stop cleanly"
printf '\n[%4ds] done\n' "$SECONDS"
