#!/usr/bin/env bash
# A real, certified OpenID Provider (npm's oidc-provider, on a Node of its own), for tests and the demo.
#   scripts/oidc-provider.sh          installs it below .state, exactly as package-lock.json says
#   scripts/oidc-provider.sh run      runs it; it is spoken to by lines of JSON (see provider.mjs)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source=scripts/oidc-provider
own=.state/oidc-provider

if ! cmp --silent "$source/package-lock.json" "$own/installed-lock.json"; then
    command -v npm >/dev/null || {
        echo "The identity provider of the tests needs npm. On Debian: apt-get install --yes npm" >&2
        exit 1
    }
    echo "Installing the identity provider of the tests into $own" >&2
    mkdir -p "$own"
    cp "$source/package.json" "$source/package-lock.json" "$own/"
    # Nothing of what is installed runs while it is: Node comes as a package, not by an installer.
    npm ci --prefix "$own" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
    cp "$source/package-lock.json" "$own/installed-lock.json"
fi
[ "${1:-}" = run ] || exit 0
cp "$source/provider.mjs" "$own/provider.mjs"
exec "$own"/node_modules/node-linux-*/bin/node "$own/provider.mjs"
