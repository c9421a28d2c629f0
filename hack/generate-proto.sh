#!/usr/bin/env bash
# generate-proto.sh: compile every .proto file under node/ and write its Go code beside it.
# TOOLS_BIN holds protogen and the two plugins (make builds them there).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=${TOOLS_BIN:?set TOOLS_BIN, or run: make generate-proto}
mapfile -t schemas < <(find node -name '*.proto' | sort)
if [[ ${#schemas[@]} -eq 0 ]]; then
	echo "no .proto file under node/: nothing to generate"
	exit 0
fi
"$bin/protogen" -root . \
	-plugin "$bin/protoc-gen-go:paths=source_relative" \
	-plugin "$bin/protoc-gen-go-grpc:paths=source_relative" \
	"${schemas[@]}"
printf 'generated from %s\n' "${schemas[@]}"
