#!/usr/bin/env bash
# Checks licences, bans, sources and, where the advisory database can be fetched, security advisories of all
# dependencies (deny.toml).
#
#   scripts/deny.sh
#
# Builds the pinned cargo-deny into target/tools when it is not there: minutes, once.
set -euo pipefail

version=0.20.2
cd "$(dirname "$0")/.."
tools=$PWD/target/tools
deny=$tools/bin/cargo-deny

if [ "$("$deny" --version 2>/dev/null)" != "cargo-deny $version" ]; then
  echo "deny.sh: building cargo-deny $version into target/tools (minutes, once)" >&2
  cargo install --quiet --locked --debug --root "$tools" "cargo-deny@$version"
fi

"$deny" check licenses bans sources

if "$deny" fetch db >/dev/null 2>&1; then
  "$deny" check advisories
else
  echo "deny.sh: advisories were NOT checked: the database (https://github.com/RustSec/advisory-db) cannot be fetched from here" >&2
fi
