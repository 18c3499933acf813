#!/bin/sh
# Start the monitoring stack, or the services named, and wait until they are healthy.
# usage: compose.sh [SERVICE]...
set -eu
cd "$(dirname "$0")/.."

if ! command -v docker >/dev/null 2>&1; then
    echo "docker is not installed: https://docs.docker.com/engine/install/" >&2
    exit 1
fi
if ! docker compose version >/dev/null 2>&1; then
    echo "docker compose is not installed: https://docs.docker.com/compose/install/" >&2
    exit 1
fi
if ! docker info >/dev/null 2>&1; then
    echo "docker does not run, or this user may not use it" >&2
    exit 1
fi
# The server listens beyond its container, so it needs a token; made once, kept in .env.
name=FLEXT_OBSERVABILITY_SERVER_TOKEN
if [ -z "${FLEXT_OBSERVABILITY_SERVER_TOKEN:-}" ] && ! grep -qs "^$name=." .env; then
    umask 077
    token=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    printf '%s=%s\n' "$name" "$token" >>.env
    echo "wrote $name to .env"
fi
exec docker compose --file docker-compose.monitoring.yml up --detach --wait "$@"
