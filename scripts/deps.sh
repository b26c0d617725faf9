#!/bin/sh
# Installs the programs that the tests run against, or says which are missing.
# Only Debian's packages are used; services are not started.
set -eu

packages=""
need() { # need PROGRAM PACKAGE
	command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}
need gcc gcc
need git git
need ssh openssh-client
need sshd openssh-server
need sftp openssh-client
need rsync rsync
need screen screen
need xauth xauth
need ssh-audit ssh-audit
need socat socat
need ssh-keygen openssh-client
need prometheus prometheus
need promtool prometheus
need setpriv util-linux
need ip iproute2
need nft nftables
need unshare util-linux
[ -n "$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null || true)" ] || packages="$packages postgresql"
/usr/bin/python3 -c 'import prometheus_client' 2>/dev/null || packages="$packages python3-prometheus-client"
packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')

if [ -z "$(printf '%s' "$packages" | tr -d ' ')" ]; then
	exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "The tests need programs that are not installed. As root:" >&2
	echo "    apt-get install --no-install-recommends $packages" >&2
	exit 1
fi
echo "installing: $packages"
# Packages start their services unless a policy says no.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
	made=1
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086
if ! { apt-get update -qq -o Acquire::Retries=3 && apt-get install -y -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 --no-install-recommends $packages; } >"$log" 2>&1; then
	cat "$log" >&2
	[ -z "$made" ] || rm -f "$policy"
	exit 1
fi
[ -z "$made" ] || rm -f "$policy"
