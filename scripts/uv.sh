#!/usr/bin/env bash
# Runs uv: the one on PATH, else our own below .state, which pip installs and so by whatever pip is configured with.
# It is not put into .venv, because `uv sync` removes from there what is not locked.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export UV_PYTHON_DOWNLOADS=never                 # the Python of this machine, or none
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} # trust whom the machine trusts, as pip does
own=.state/uv

python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "Python >= 3.11 with venv is missing. On Debian: apt-get install --yes python3 python3-venv" >&2
    return 1
}

# A shim of a version manager may be on PATH and run nothing, so it is asked.
if uv --version >/dev/null 2>&1; then
    exec uv "$@"
fi
if ! "$own/bin/uv" --version >/dev/null 2>&1; then
    found=$(python)
    echo "uv is not installed: installing it into $own" >&2
    "$found" -m venv --clear "$own"
    "$own/bin/python" -m pip install --quiet --disable-pip-version-check uv >&2
fi
exec "$own/bin/uv" "$@"
