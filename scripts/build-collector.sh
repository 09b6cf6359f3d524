#!/bin/sh
# Builds an OpenTelemetry Collector for the tests with the official builder, from published Go modules, and prints where
# it is. Kept outside the tree, so that it is built once per machine and version.
set -eu

VERSION=0.161.0
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/comet-otel/otelcol-$VERSION"
PROGRAM="$CACHE/dist/otelcol"

if [ -x "$PROGRAM" ]; then
    echo "$PROGRAM"
    exit 0
fi
if ! command -v go >/dev/null 2>&1; then
    echo "make collector needs the Go toolchain (go on PATH); without it, those tests are skipped" >&2
    exit 1
fi
mkdir -p "$CACHE"
cat > "$CACHE/manifest.yaml" <<MANIFEST
dist:
  name: otelcol
  description: OpenTelemetry Collector for the tests of comet-otel
  output_path: $CACHE/dist
  version: $VERSION
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver v$VERSION
exporters:
  - gomod: go.opentelemetry.io/collector/exporter/debugexporter v$VERSION
  - gomod: go.opentelemetry.io/collector/exporter/otlpexporter v$VERSION
  - gomod: go.opentelemetry.io/collector/exporter/otlphttpexporter v$VERSION
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter v$VERSION
processors:
  - gomod: go.opentelemetry.io/collector/processor/batchprocessor v$VERSION
providers:
  - gomod: go.opentelemetry.io/collector/confmap/provider/fileprovider v1.67.0
  - gomod: go.opentelemetry.io/collector/confmap/provider/envprovider v1.67.0
  - gomod: go.opentelemetry.io/collector/confmap/provider/yamlprovider v1.67.0
MANIFEST
export GOBIN="$CACHE/bin" CGO_ENABLED=0 GOFLAGS="-buildvcs=false -p=2"
go install "go.opentelemetry.io/collector/cmd/builder@v$VERSION" >&2
"$GOBIN/builder" --config="$CACHE/manifest.yaml" >&2
echo "$PROGRAM"
