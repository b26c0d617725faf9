#!/bin/sh
# Regenerates the committed Go code of the .proto files under wire/.
# Needs protoc (Debian: protobuf-compiler); the plugins come from go.mod.
set -eu
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go storj.io/drpc/cmd/protoc-gen-go-drpc
PATH="$bin:$PATH" protoc -I . \
	--go_out=. --go_opt=module=github.com/worktally/worktally \
	--go-drpc_out=. --go-drpc_opt=module=github.com/worktally/worktally --go-drpc_opt=json=false \
	wire/tailnetpb/tailnet.proto wire/worktallypb/report.proto wire/worktallypb/outbox.proto wire/agentpb/agent.proto
