#!/bin/sh
# Print the newest Python on PATH that can make a virtual environment (3.11 or newer).
# A name on PATH may be a shim that fails, so each candidate is really run.
# PYTHON=... decides instead of the search.
usable='import sys; sys.exit(sys.version_info < (3, 11))'
complete='import ensurepip, venv'
bare=''
for name in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
    "$name" -c "$usable" >/dev/null 2>&1 || continue
    if "$name" -c "$complete" >/dev/null 2>&1; then
        echo "$name"
        exit 0
    fi
    bare=${bare:-$name}
done
if [ -n "$bare" ]; then
    echo "error: $bare lacks venv/ensurepip: install it (Debian and Ubuntu: apt install python3-venv) or set PYTHON=/path/to/python" >&2
elif [ -n "${PYTHON:-}" ]; then
    echo "error: PYTHON=$PYTHON is no Python 3.11 or newer" >&2
else
    echo "error: no Python 3.11 or newer on PATH: install one or set PYTHON=/path/to/python" >&2
fi
exit 1
