#!/usr/bin/env bash
# Builds the parts of a Kubernetes cluster for tests from their Go modules, into build/kubernetes.
# Eight to eleven CPU minutes the first time; nothing where the version is built already.
set -euo pipefail
cd "$(dirname "$0")"
target=$(realpath -m ../../build/kubernetes)
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
[ "$(cat "$target/version" 2>/dev/null || true)" = "$version" ] && exit 0
minor=${version#v1.}
# Without these the programs take themselves for v0.0.0.
flags="-X k8s.io/component-base/version.gitVersion=$version"
flags+=" -X k8s.io/component-base/version.gitMajor=1"
flags+=" -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
mkdir -p "$target"
for program in kube-apiserver kube-controller-manager kube-scheduler kubelet; do
  echo "building $program $version"
  go build -trimpath -ldflags "-s -w $flags" -o "$target/$program" "k8s.io/kubernetes/cmd/$program"
done
echo "$version" >"$target/version"
