#!/usr/bin/env bash
# Sees to the programs the tests run for real. Installs what is missing where it may (root on a Debian), else names it.
set -euo pipefail

missing=()
[ -x /usr/bin/python3 ] || missing+=(python3-minimal) # what runs inside sandboxes, which see /usr and not .venv
command -v bwrap >/dev/null || missing+=(bubblewrap)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v chromium >/dev/null || missing+=(chromium) # logs in at the identity provider, as people do
command -v npm >/dev/null || missing+=(npm)           # brings that identity provider
command -v docker-registry >/dev/null || missing+=(docker-registry) # what images are pulled from
command -v dockerd >/dev/null || missing+=(docker.io) # an engine of the tests' own; it is started by them alone
command -v podman >/dev/null || missing+=(podman) # the other engine; its service is started by them alone
command -v runsc >/dev/null || missing+=(runsc) # gVisor, a runtime of the engine's that has a kernel of its own
command -v zstd >/dev/null || missing+=(zstd) # packs layers as people do
command -v openssl >/dev/null || missing+=(openssl) # makes certificates as the pages say
command -v ps >/dev/null || missing+=(procps) # tests look at what a process shows of itself
[ ${#missing[@]} -gt 0 ] || exit 0

install=(apt-get install --yes --no-install-recommends "${missing[@]}")
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "The tests need: ${missing[*]} (Debian's names). As root: ${install[*]}" >&2
    exit 1
fi
echo "Installing the Debian packages the tests need: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${install[@]}" >/dev/null 2>&1 </dev/null || {
    apt-get update --quiet=2 </dev/null # fresh images come without lists
    "${install[@]}" >/dev/null </dev/null
}
