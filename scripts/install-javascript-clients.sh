#!/bin/sh
# Installs OpenTelemetry's JavaScript SDK with its OTLP exporters, clients of the receiver's tests, outside of the project.
#
# It helps where it can and never fails: without node or npm, or without a registry, it says so, and the tests that need
# it skip, visibly. Nothing is installed again while the list of packages stays the same. No package's own script is run.

set -u

here=$(cd "$(dirname "$0")/.." && pwd)
list="$here/tests/integration/clients/javascript/package.json"
cache="${XDG_CACHE_HOME:-${HOME-}/.cache}/comet-otel/javascript-clients"

if [ -z "${XDG_CACHE_HOME-}${HOME-}" ]; then
    echo "javascript clients: neither XDG_CACHE_HOME nor HOME says where caches are, so nothing is installed"
elif ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    echo "javascript clients: no node or npm here, so nothing is installed"
elif cmp -s "$list" "$cache/installed.json" && [ -d "$cache/node_modules" ]; then
    echo "javascript clients: all present in $cache"
elif rm -rf "$cache" && mkdir -p "$cache" && cp "$list" "$cache/package.json" &&
    (cd "$cache" && npm install --ignore-scripts --no-package-lock --no-audit --no-fund --loglevel=error); then
    cp "$list" "$cache/installed.json"
    echo "javascript clients: installed in $cache"
else
    rm -rf "$cache/node_modules"
    echo "javascript clients: ABSENT: the installation failed -- the tests that need them will be skipped"
fi
exit 0
