#!/usr/bin/env bash
# Builds kube-apiserver, kubectl, etcd and helm from the Go module proxy, for the end-to-end suite.
#
#   tests/e2e/build-assets.sh KUBERNETES_VERSION OUTPUT_DIR      e.g. 1.37.2 target/e2e-assets/1.37.2
#
# Needs the Go toolchain alone. Builds only what is not there yet. etcd and helm are built once, into folders beside
# OUTPUT_DIR, and shared by all versions of Kubernetes below the same parent.
# Set KUBEBUILDER_ASSETS to a folder that holds the four programs to use those instead (the suite then never calls this).
set -euo pipefail

version=${1:?usage: build-assets.sh KUBERNETES_VERSION OUTPUT_DIR}
output=${2:?usage: build-assets.sh KUBERNETES_VERSION OUTPUT_DIR}
etcd_version=3.7.3
helm_version=3.22.0

complete=yes
for program in kube-apiserver etcd kubectl helm; do
  [ -x "$output/$program" ] || complete=no
done
if [ "$complete" = yes ]; then
  exit 0
fi
if ! command -v go >/dev/null; then
  echo "build-assets.sh: the end-to-end suite needs a real kube-apiserver, etcd and helm." \
    "Install Go (1.26 or newer) so that they can be built, or set KUBEBUILDER_ASSETS to a folder that holds them." >&2
  exit 1
fi

mkdir -p "$output"
output=$(cd "$output" && pwd)
sources=$output/src
shared=$(dirname "$output")/etcd-$etcd_version
shared_helm=$(dirname "$output")/helm-$helm_version
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0

# Resolves the module in the current folder. Its chatter is worth reading only when it fails.
tidy() {
  go mod tidy >tidy.log 2>&1 || {
    cat tidy.log >&2
    exit 1
  }
}

# k8s.io/kubernetes requires its staging modules at v0.0.0; each minor release publishes them as v0.MINOR.PATCH.
build_kubernetes() {
  mkdir -p "$sources/kubernetes"
  cd "$sources/kubernetes"
  local staging=v0.${version#1.} minor=${version#1.} gomod
  minor=${minor%%.*}
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
  tidy
  # Without these the server calls itself v0.0.0, and clients choose their way of reading by its version.
  local package=k8s.io/component-base/version
  local stamp="-X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=$minor"
  go build -trimpath -ldflags "-s -w $stamp" -o "$output/" k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl
}

build_etcd() {
  mkdir -p "$shared/src"
  cd "$shared/src"
  printf 'module e2e-assets\n\ngo 1.26\n\nrequire go.etcd.io/etcd/server/v3 v%s\n' "$etcd_version" >go.mod
  printf '//go:build tools\n\npackage tools\n\nimport _ "go.etcd.io/etcd/server/v3"\n' >tools.go
  echo "build-assets.sh: building etcd $etcd_version" >&2
  tidy
  go build -trimpath -ldflags "-s -w" -o "$shared/etcd" go.etcd.io/etcd/server/v3
}

build_helm() {
  mkdir -p "$shared_helm/src"
  cd "$shared_helm/src"
  printf 'module e2e-assets\n\ngo 1.26\n\nrequire helm.sh/helm/v3 v%s\n' "$helm_version" >go.mod
  printf '//go:build tools\n\npackage tools\n\nimport _ "helm.sh/helm/v3/cmd/helm"\n' >tools.go
  echo "build-assets.sh: building helm $helm_version" >&2
  tidy
  # Without these helm takes a cluster that it does not see for a 1.20.
  local package=helm.sh/helm/v3 minor
  minor=$(go list -m -f '{{.Version}}' k8s.io/client-go)
  minor=${minor#v0.}
  minor=${minor%%.*}
  local stamp="-X $package/internal/version.version=v$helm_version" variables
  for variables in pkg/chartutil pkg/lint/rules; do
    stamp="$stamp -X $package/$variables.k8sVersionMajor=1 -X $package/$variables.k8sVersionMinor=$minor"
  done
  go build -trimpath -ldflags "-s -w $stamp" -o "$shared_helm/helm" "$package/cmd/helm"
}

if [ ! -x "$output/kube-apiserver" ] || [ ! -x "$output/kubectl" ]; then
  build_kubernetes
fi
if [ ! -x "$output/etcd" ]; then
  if [ ! -x "$shared/etcd" ]; then
    build_etcd
  fi
  ln "$shared/etcd" "$output/etcd"
fi
if [ ! -x "$output/helm" ]; then
  if [ ! -x "$shared_helm/helm" ]; then
    build_helm
  fi
  ln "$shared_helm/helm" "$output/helm"
fi
