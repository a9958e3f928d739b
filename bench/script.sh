#!/usr/bin/env bash
# The best script that we can write: all clusters at once, one call for istiod and the gateway, and nothing waits
# for what it does not need.
# shellcheck source=bench/steps.sh
. "$(dirname "$0")/steps.sh"

in_all() { # STEP: in all clusters at once; the script ends where it fails in one
  local cluster process processes=()
  for cluster in "${clusters[@]}"; do
    "$1" "$cluster" &
    processes+=($!)
  done
  for process in "${processes[@]}"; do wait "$process"; done
}

fetch() {
  local i
  for i in "${!clusters[@]}"; do
    [ "${clusters[i]}" != "$1" ] || fetch_kubeconfig "$1" "${zones[i]}"
  done
}

prepare() {
  fetch "$1"
  make_intermediate_ca "$1"
  store_ca "$1"
  make_remote_secret "$1"
}

# A cluster may read its peers before istiod is there: so istiod knows them from its first moment.
read_peers() {
  local peer
  for peer in "${clusters[@]}"; do
    [ "$peer" = "$1" ] || { cat "$peer.remote-secret.yaml" && echo ---; }
  done | on "$1" apply -f -
}

build() {
  read_peers "$1"
  install_both "$1"
  expose_services "$1"
  if [ "$1" = "$server" ]; then deploy_demo "$1" server && await_demo "$1" exo-webtest; fi
  if [ "$1" = "$client" ]; then deploy_demo "$1" client && await_demo "$1" curl; fi
  await_gateway_address "$1"
}

make_root_ca
in_all prepare
in_all build
fetch_page
