#!/bin/sh
# Runs every fuzz target for the given time.
set -eu
cd "$(dirname "$0")/.."
time=${1:-5s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# A worker that is still busy when the time is over may be reported as a failure
# without an input: such a target runs again.
run() {
	for _ in 1 2 3 4; do
		go test "$1" -run '^$' -fuzz "^$2\$" -fuzztime "$time" >"$log" 2>&1 && return
		grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log" || return 1
	done
	return 1
}

grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do
	grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | while read -r target; do
		echo "$dir $target"
		run "$dir" "$target" || { cat "$log"; exit 1; }
	done
done
