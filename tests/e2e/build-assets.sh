#!/usr/bin/env bash
# Builds kube-apiserver, kubectl and etcd from the Go module proxy, for the end-to-end suite.
#
#   tests/e2e/build-assets.sh KUBERNETES_VERSION OUTPUT_DIR      e.g. 1.37.2 target/e2e-assets/1.37.2
#
# Needs the Go toolchain alone. Does nothing when the three programs are there already.
# Set KUBEBUILDER_ASSETS to a folder that holds them to use those instead (the suite then never calls this).
set -euo pipefail

version=${1:?usage: build-assets.sh KUBERNETES_VERSION OUTPUT_DIR}
output=${2:?usage: build-assets.sh KUBERNETES_VERSION OUTPUT_DIR}
etcd_version=3.7.3

if [ -x "$output/kube-apiserver" ] && [ -x "$output/etcd" ] && [ -x "$output/kubectl" ]; then
  exit 0
fi
if ! command -v go >/dev/null; then
  echo "build-assets.sh: the end-to-end suite needs a real kube-apiserver and etcd." \
    "Install Go (1.26 or newer) so that they can be built, or set KUBEBUILDER_ASSETS to a folder that holds them." >&2
  exit 1
fi

mkdir -p "$output"
output=$(cd "$output" && pwd)
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0

# k8s.io/kubernetes requires its staging modules at v0.0.0; each minor release publishes them as v0.MINOR.PATCH.
kubernetes=$output/src/kubernetes
mkdir -p "$kubernetes"
cd "$kubernetes"
staging=v0.${version#1.}
gomod=$(cd / && go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/^[[:space:]]*"GoMod": "\(.*\)",\{0,1\}$/\1/p')
{
  echo "module e2e-assets"
  sed -n 's/^go /\ngo /p' "$gomod"
  echo "require k8s.io/kubernetes v$version"
  sed -n "s/^[[:space:]]*\(k8s\.io\/[^ ]*\) v0\.0\.0$/replace \1 => \1 $staging/p" "$gomod"
} >go.mod
cat >tools.go <<'GO'
//go:build tools

package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
GO
echo "build-assets.sh: building kube-apiserver and kubectl $version (minutes, once)" >&2
go mod tidy >/dev/null 2>&1 || go mod tidy
minor=${version#1.}
stamp="-X k8s.io/component-base/version.gitVersion=v$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
go build -trimpath -ldflags "-s -w $stamp" -o "$output/" k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl

etcd=$output/src/etcd
mkdir -p "$etcd"
cd "$etcd"
printf 'module e2e-assets\n\ngo 1.26\n\nrequire go.etcd.io/etcd/server/v3 v%s\n' "$etcd_version" >go.mod
printf '//go:build tools\n\npackage tools\n\nimport _ "go.etcd.io/etcd/server/v3"\n' >tools.go
echo "build-assets.sh: building etcd $etcd_version" >&2
go mod tidy >/dev/null 2>&1 || go mod tidy
go build -trimpath -ldflags "-s -w" -o "$output/etcd" go.etcd.io/etcd/server/v3
