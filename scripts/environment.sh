#!/usr/bin/env bash
# Makes .venv hold exactly what uv.lock says, and the project itself. Safe to repeat; make calls it when the lock is newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# uv does not read pip's configuration. A certificate named there counts here too. Where it names an index of its own,
# the locked versions come from that one, held to the lock's hashes.
configured() { python3 -m pip config get "global.$1" 2>/dev/null || true; }
index=${PIP_INDEX_URL:-$(configured index-url)}
certificate=${SSL_CERT_FILE:-${PIP_CERT:-$(configured cert)}}
[ -z "$certificate" ] || export SSL_CERT_FILE=$certificate

scripts/uv.sh --version >/dev/null
echo "Installing the locked packages into .venv (about 400 MB)"
if [ -z "$index" ]; then
    scripts/uv.sh sync --quiet --locked
else
    requirements=.state/requirements.txt
    mkdir -p .state
    scripts/uv.sh export --quiet --locked --no-emit-project --output-file "$requirements"
    scripts/uv.sh venv --quiet --allow-existing .venv
    scripts/uv.sh pip sync --quiet --default-index "$index" --require-hashes "$requirements"
    scripts/uv.sh pip install --quiet --default-index "$index" --no-deps --editable .
fi
# The launcher of sandboxes writes nothing beside its sources: what it finds compiled it need not compile at each start.
.venv/bin/python -m compileall -q src
touch .venv/.ready
echo "Ready: .venv/bin/tenantry"
