#!/usr/bin/env bash
# Generates gen/ from the protos, always with the same bytes from the same protos.
#
#   tools/gen.sh                 everything; needs Go, npm and a package registry
#   tools/gen.sh server [DIR]    Python, descriptors, HTTP surface and OpenAPI; needs only the venv
#   tools/gen.sh clients [DIR]   TypeScript and Go
#   tools/gen.sh check           fails when gen/ is not what the protos say
#
# DIR is the folder that gets gen/; the repository itself unless told otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PWD/build/tools/bin:$PWD/tools/ts/node_modules/.bin:$PATH"

PROTOC_GEN_GO=v1.36.12
PROTOC_GEN_GO_GRPC=v1.6.2

server() {
  local gen="$1/gen"
  rm -rf "$gen/python"
  buf generate -o "$1"
  # mypy-protobuf writes stubs for services that do not exist.
  find "$gen/python" -name '*_pb2_grpc.pyi' -exec sh -c 'test -f "${1%i}" || rm "$1"' _ {} \;
  # Packages, so that type checkers follow them; `buf` holds validate_pb2, which no wheel ships.
  find "$gen/python" -mindepth 1 -type d -exec touch {}/__init__.py \;
  touch "$gen/python/moleculeai/py.typed" "$gen/python/buf/py.typed"
  # The workspace root, not proto alone: the edge also needs the messages of google/rpc.
  buf build . --exclude-source-info -o "$gen/descriptor.binpb"
}

"${1:-server}" "${2:-.}"
