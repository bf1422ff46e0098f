#!/usr/bin/env bash
# Generates gen/ from the protos; the same protos always give the same bytes.
#
#   tools/gen.sh                 everything; needs Go, npm and a package registry
#   tools/gen.sh server [DIR]    Python, descriptors, HTTP surface and OpenAPI; needs only the venv
#   tools/gen.sh clients [DIR]   TypeScript and Go
#   tools/gen.sh check           fails when gen/ differs from a fresh generation
#
# DIR is the folder that receives gen/; default: the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PWD/build/tools/bin:$PWD/tools/ts/node_modules/.bin:$PATH"
export PYTHONDONTWRITEBYTECODE=1

PROTOC_GEN_GO=v1.36.12
PROTOC_GEN_GO_GRPC=v1.6.2

server() {
  local gen="$1/gen" commented
  buf build . -o /dev/null # stop here, before gen/ is removed, if the protos do not compile
  rm -rf "$gen/python"
  buf generate -o "$1"
  # mypy-protobuf writes *_pb2_grpc.pyi for files without services, too: remove those.
  find "$gen/python" -name '*_pb2_grpc.pyi' -exec sh -c 'test -f "${1%i}" || rm "$1"' _ {} \;
  # Type checkers need packages; `buf` holds validate_pb2, which no wheel ships.
  find "$gen/python" -mindepth 1 -type d -exec touch {}/__init__.py \;
  touch "$gen/python/moleculeai/py.typed" "$gen/python/buf/py.typed"

  # The workspace root, not proto alone: the edge also needs the messages of google/rpc.
  buf build . --exclude-source-info --as-file-descriptor-set -o "$gen/descriptor.binpb"
  commented=$(mktemp --suffix .binpb)
  buf build . --as-file-descriptor-set -o "$commented"
  mkdir -p "$gen/openapi"
  python -m tools.http_surface "$commented" >"$gen/http_surface.txt"
  python -m tools.openapi "$commented" >"$gen/openapi/openapi.json"
  rm "$commented"
}

clients() {
  local gen="$1/gen"
  npm ci --prefix tools/ts --no-audit --no-fund --silent
  GOBIN="$PWD/build/tools/bin" go install "google.golang.org/protobuf/cmd/protoc-gen-go@$PROTOC_GEN_GO"
  GOBIN="$PWD/build/tools/bin" go install "google.golang.org/grpc/cmd/protoc-gen-go-grpc@$PROTOC_GEN_GO_GRPC"
  rm -rf "$gen/ts/src" "$gen/go/moleculeai"
  buf generate --template buf.gen.clients.yaml -o "$1"
}

check() {
  local fresh stale=0
  fresh=$(mktemp -d)
  server "$fresh"
  clients "$fresh"
  for part in python descriptor.binpb http_surface.txt openapi ts/src go/moleculeai; do
    diff --recursive --brief --exclude=__pycache__ "gen/$part" "$fresh/gen/$part" || stale=1
  done
  rm -r "$fresh"
  if [ "$stale" = 1 ]; then
    echo "gen/ differs from a fresh generation: run tools/gen.sh and commit the result" >&2
    exit 1
  fi
}

case "${1:-all}" in
  all)
    server .
    clients .
    ;;
  server | clients) "$1" "${2:-.}" ;;
  check) check ;;
  *)
    sed -n '/^# /,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
