# The tutorial's steps, a function each, for the two scripts that exomesh.istio is measured against.
# Both scripts expect:
#   CLUSTERS, ZONES   names of the clusters, and the zone of each; the second cluster has the demo's server
#   OVERLAY           a file with an IstioOperator spec that the clusters need; on Exoscale it would be "{}"
#   exo, istioctl, kubectl, openssl on PATH, and Exoscale's credentials as exo takes them
# They work in the current folder. A step that was done is not done again.
# shellcheck shell=bash
set -euo pipefail
read -ra clusters <<<"$CLUSTERS"
read -ra zones <<<"$ZONES"
client=${clusters[0]}
server=${clusters[1]}

on() { # CLUSTER ARGUMENTS: kubectl on a cluster
  local cluster=$1
  shift
  kubectl --kubeconfig="$cluster.kubeconfig" "$@"
}

fetch_kubeconfig() { # CLUSTER ZONE
  [ -s "$1.kubeconfig" ] || exo compute sks kubeconfig "$1" admin --zone "$2" --group system:masters >"$1.kubeconfig"
  chmod 600 "$1.kubeconfig"
}

make_root_ca() {
  [ -s root-cert.pem ] || openssl req -x509 -newkey rsa:4096 -nodes -keyout root-key.pem -out root-cert.pem \
    -days 3650 -sha256 -subj "/O=Istio/CN=Root CA" 2>/dev/null
}

make_intermediate_ca() { # CLUSTER
  [ ! -s "$1/cert-chain.pem" ] || return 0
  mkdir -p "$1"
  openssl req -new -newkey rsa:4096 -nodes -keyout "$1/ca-key.pem" -out "$1/ca.csr" \
    -subj "/O=Istio/CN=Intermediate CA/L=$1" 2>/dev/null
  openssl x509 -req -in "$1/ca.csr" -CA root-cert.pem -CAkey root-key.pem -set_serial "0x$(openssl rand -hex 8)" \
    -days 730 -sha256 -out "$1/ca-cert.pem" 2>/dev/null -extfile /dev/stdin <<END
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, digitalSignature, keyCertSign, cRLSign
subjectAltName = DNS:istiod.istio-system.svc
END
  cat "$1/ca-cert.pem" root-cert.pem >"$1/cert-chain.pem"
}

store_ca() { # CLUSTER
  on "$1" create namespace istio-system --dry-run=client -o yaml | on "$1" apply -f -
  on "$1" label namespace istio-system --overwrite "topology.istio.io/network=network-$1"
  on "$1" create secret generic cacerts -n istio-system --dry-run=client -o yaml \
    --from-file="$1/ca-cert.pem" --from-file="$1/ca-key.pem" --from-file=root-cert.pem \
    --from-file="$1/cert-chain.pem" | on "$1" apply -f -
}

operator_of_istiod() { # CLUSTER
  cat <<END
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: installed-state, namespace: istio-system}
spec:
  profile: minimal
  meshConfig:
    defaultConfig:
      proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true"}
  values:
    global:
      meshID: mesh1
      multiCluster: {clusterName: $1}
      network: network-$1
END
}

operator_of_gateway() { # CLUSTER PROFILE
  cat <<END
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: eastwest, namespace: istio-system}
spec:
  profile: $2
  components:
    ingressGateways:
      - name: istio-eastwestgateway
        label: {istio: eastwestgateway, app: istio-eastwestgateway, topology.istio.io/network: network-$1}
        enabled: true
        k8s:
          env:
            - {name: ISTIO_META_REQUESTED_NETWORK_VIEW, value: network-$1}
          service:
            ports:
              - {name: status-port, port: 15021, targetPort: 15021}
              - {name: tls, port: 15443, targetPort: 15443}
              - {name: tls-istiod, port: 15012, targetPort: 15012}
              - {name: tls-webhook, port: 15017, targetPort: 15017}
  values:
    gateways:
      istio-ingressgateway: {injectionTemplate: gateway}
    global:
      network: network-$1
END
}

install_istiod() { # CLUSTER
  operator_of_istiod "$1" >"$1.istiod.yaml"
  istioctl install --kubeconfig="$1.kubeconfig" -y -f "$1.istiod.yaml" -f "$OVERLAY"
}

install_gateway() { # CLUSTER
  operator_of_gateway "$1" empty >"$1.gateway.yaml"
  istioctl install --kubeconfig="$1.kubeconfig" -y -f "$1.gateway.yaml" -f "$OVERLAY"
}

install_both() { # CLUSTER: istiod and the gateway by one call
  operator_of_istiod "$1" >"$1.istiod.yaml"
  operator_of_gateway "$1" minimal >"$1.gateway.yaml"
  istioctl install --kubeconfig="$1.kubeconfig" -y -f "$1.istiod.yaml" -f "$1.gateway.yaml" -f "$OVERLAY"
}

await_gateway_address() { # CLUSTER
  on "$1" wait --for=jsonpath='{.status.loadBalancer.ingress}' --timeout=300s \
    -n istio-system service/istio-eastwestgateway
}

expose_services() { # CLUSTER
  on "$1" apply -n istio-system -f - <<END
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: cross-network-gateway}
spec:
  selector: {istio: eastwestgateway}
  servers:
    - port: {number: 15443, name: tls, protocol: TLS}
      tls: {mode: AUTO_PASSTHROUGH}
      hosts: ["*.local"]
END
}

make_remote_secret() { # CLUSTER
  istioctl create-remote-secret --kubeconfig="$1.kubeconfig" --name="$1" >"$1.remote-secret.yaml"
}

apply_remote_secret() { # CLUSTER PEER: the cluster may read the peer's endpoints
  on "$1" apply -f "$2.remote-secret.yaml"
}

deploy_demo() { # CLUSTER WORKLOAD
  on "$1" apply -f - <<END
apiVersion: v1
kind: Namespace
metadata: {name: exodemo, labels: {istio-injection: enabled}}
END
  "demo_$2" | on "$1" apply -n exodemo -f -
}

demo_server() {
  cat <<END
apiVersion: v1
kind: Service
metadata: {name: exo-webtest, labels: {app: exo-webtest}}
spec:
  selector: {app: exo-webtest}
  ports: [{name: http, port: 3000, targetPort: 3000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: exo-webtest, labels: {app: exo-webtest}}
spec:
  selector: {matchLabels: {app: exo-webtest}}
  template:
    metadata: {labels: {app: exo-webtest}}
    spec:
      containers:
        - name: exo-webtest
          image: exo.container-registry.com/exoscale-images/exo-webtest:v2
          ports: [{containerPort: 3000}]
          readinessProbe: {httpGet: {path: /, port: 3000}}
END
}

demo_client() {
  cat <<END
apiVersion: apps/v1
kind: Deployment
metadata: {name: curl, labels: {app: curl}}
spec:
  selector: {matchLabels: {app: curl}}
  template:
    metadata: {labels: {app: curl}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {name: curl, image: "docker.io/curlimages/curl:8.16.0", command: [sleep, infinity]}
END
}

await_demo() { # CLUSTER DEPLOYMENT
  on "$1" rollout status -n exodemo --timeout=300s "deployment/$2"
}

fetch_page() { # until it comes, as a person would press the key again
  until on "$client" exec -n exodemo deploy/curl -c curl -- curl --fail --silent --max-time 5 exo-webtest:3000; do
    sleep 1
  done
}
