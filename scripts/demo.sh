#!/usr/bin/env bash
# Reports a made-up cluster to a made-up Anchore Enterprise, both on loopback, and shows what arrived.
#
#   scripts/demo.sh
#
# Needs Rust alone. Contacts nothing outside this machine, apart from what cargo downloads, and leaves nothing running.
set -euo pipefail

cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "Building the agent and the testbed"
cargo build --locked -p anchore-k8s-inventory -p anchore-k8s-inventory-testbed --bins
bin=${CARGO_TARGET_DIR:-target}/debug

folder=$(mktemp -d)
touch "$folder/said"
testbed=
stop() {
  if [ -n "$testbed" ]; then
    kill "$testbed" 2>/dev/null || true
    wait "$testbed" || true
    testbed=
  fi
}
trap 'stop; rm -rf "$folder"' EXIT

step "Starting a cluster of 300 pods, and an Anchore Enterprise with the accounts admin, blue and green"
"$bin/testbed" --out "$folder" --pods 300 --namespaces 30 --account blue,green --summary >"$folder/said" &
testbed=$!
# Its last words before it serves are how to run the agent.
until grep -q '^Now run' "$folder/said"; do
  if ! kill -0 "$testbed" 2>/dev/null; then
    echo "demo.sh: the testbed did not start" >&2
    exit 1
  fi
  sleep 0.1
done
head -n 2 "$folder/said"

export DEMO_KUBECONFIG=$folder/kubeconfig.yaml
DEMO_ANCHORE_URL=$(sed -n 's/^ *url: *//p' "$folder/config.yaml")
export DEMO_ANCHORE_URL DEMO_ANCHORE_USER=admin DEMO_ANCHORE_PASSWORD=foobar

step "anchore-k8s-inventory -c examples/demo.yaml -o table     (the images in use; nothing is sent)"
"$bin/anchore-k8s-inventory" -c examples/demo.yaml -o table

step "anchore-k8s-inventory -c examples/demo.yaml     (report them)"
"$bin/anchore-k8s-inventory" -c examples/demo.yaml

step "What Anchore Enterprise accepted, by account"
announced=$(wc -l <"$folder/said")
stop
tail -n "+$((announced + 1))" "$folder/said"
