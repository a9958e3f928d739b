#!/usr/bin/env bash
# The tutorial as a person types it: one command after the other, cluster by cluster, waiting where one must.
# shellcheck source=bench/steps.sh
. "$(dirname "$0")/steps.sh"

for i in "${!clusters[@]}"; do fetch_kubeconfig "${clusters[i]}" "${zones[i]}"; done

make_root_ca
for cluster in "${clusters[@]}"; do
  make_intermediate_ca "$cluster"
  store_ca "$cluster"
done

for cluster in "${clusters[@]}"; do install_istiod "$cluster"; done
for cluster in "${clusters[@]}"; do
  install_gateway "$cluster"
  await_gateway_address "$cluster"
  expose_services "$cluster"
done

for peer in "${clusters[@]}"; do
  make_remote_secret "$peer"
  for cluster in "${clusters[@]}"; do
    [ "$cluster" = "$peer" ] || apply_remote_secret "$cluster" "$peer"
  done
done

deploy_demo "$server" server
await_demo "$server" exo-webtest
deploy_demo "$client" client
await_demo "$client" curl
fetch_page
