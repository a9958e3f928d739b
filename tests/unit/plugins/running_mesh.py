# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh of two clusters where all is well: small APIs of real HTTP, whose pods answer as Istio's do."""

from __future__ import annotations

import base64
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._istio import envoy
from ansible_collections.exomesh.istio.plugins.module_utils._trust import x509 as rules
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import Authority, KeyKind, Profile
from kubeconfigs import CA_OF_TESTS, NOW, Pair, issue, run_module
from kubernetes_api import ApiServer, Object
from signing import sign_intermediate

NAMES = ("vie", "fra")
SYSTEM = "istio-system"
ISTIOD, GATEWAY = "istiod-1", "gateway-1"
PLURALS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Gateway": "/apis/networking.istio.io/v1/namespaces/{}/gateways",
    "MutatingWebhookConfiguration": ("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"),
    "Namespace": "/api/v1/namespaces",
}
ENVIRONMENT = {"ISTIO_META_DNS_CAPTURE": "true", "ISTIO_META_CLUSTER_ID": "{name}", "CLUSTER_ID": "{name}"}
MARK = "~exomesh~"
API_SERVER = issue("kube-apiserver", issuer=CA_OF_TESTS, address="127.0.0.1")


def text_of(content: str | bytes) -> str:
    """As in the data of a Secret."""
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


class RunningCluster:
    """A member with its CA, istiod, east-west gateway and one workload of a user."""

    def __init__(self, folder: Path, name: str, root: Authority) -> None:
        self.name = name
        self.folder = folder
        self.root = root
        self.address = f"203.0.113.{NAMES.index(name) + 1}"
        self.api = ApiServer(folder, name)
        self.api.run_pod = self.start_pod
        self.api.run_command = self.run_command
        self.leaf = self.new_intermediate()
        self.policies: list[Object] = []
        self.members = {name: self}
        labels = {"topology.istio.io/network": f"network-{name}"}
        self.put("Namespace", SYSTEM, labels)
        self.put("Namespace", "shop", {"istio-injection": "enabled"})
        webhook = {
            "name": "namespace.sidecar-injector.istio.io",
            "namespaceSelector": {"matchLabels": {"istio-injection": "enabled"}},
        }
        self.put("MutatingWebhookConfiguration", "istio-revision-tag-default", webhooks=[webhook])
        self.put("ConfigMap", "istio-ca-root-cert", data={"root-cert.pem": rules.chain_pem(root.chain)})
        self.put("ConfigMap", "kube-root-ca.crt", data={"ca.crt": CA_OF_TESTS.pem.decode()})
        mesh = {"defaultConfig": {"meshId": "mesh1", "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}}
        self.put("ConfigMap", "istio", data={"mesh": yaml.safe_dump(mesh)})
        discovery = {"name": "discovery", "image": "docker.io/istio/pilot:1.31.1"}
        variables = [{"name": "CLUSTER_ID", "value": name}]
        template = {"spec": {"containers": [{**discovery, "env": variables}]}}
        installed = {"app": "istiod", "install.operator.istio.io/owning-resource": "exomesh"}
        self.put("Deployment", "istiod", installed, spec={"replicas": 1, "template": template})
        sent = {"name": "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS", "value": "false"}
        self.put("Pod", ISTIOD, {"app": "istiod"}, spec={"containers": [{**discovery, "env": [sent]}]})
        self.put("Pod", GATEWAY, {"istio": "eastwestgateway"}, spec={"containers": []})
        self.put("Pod", "web-1", {"app": "web"}, "shop", spec={"containers": [{"name": "app"}]})
        selector = {"istio": "eastwestgateway"}
        self.put(
            "Service",
            "istio-eastwestgateway",
            {**labels, "istio": "eastwestgateway"},
            spec={
                "type": "LoadBalancer",
                "ports": [{"port": 15443}],
                "selector": selector,
            },
            status={"loadBalancer": {"ingress": [{"ip": self.address}]}},
        )
        server = {"port": {"number": 15443}, "tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": ["*.local"]}
        expose = {"selector": selector, "servers": [server]}
        self.put("Gateway", "cross-network-gateway", spec=expose)
        self.serve()

    def new_intermediate(self) -> Pair:
        """Give the cluster a new CA; what its proxies get of it."""
        key = rules.new_key(KeyKind("ecdsa-p256"))
        profile = Profile(self.name, "Istio", KeyKind("ecdsa-p256"), timedelta(days=365), timedelta(days=30))
        chain = sign_intermediate(self.root, key, profile, NOW)
        content = {
            "ca-cert.pem": rules.chain_pem(chain[:1]),
            "ca-key.pem": rules.key_pem(key),
            "cert-chain.pem": rules.chain_pem(chain),
            "root-cert.pem": rules.chain_pem(self.root.chain),
        }
        owned = {"app.kubernetes.io/managed-by": "exomesh.istio"}
        self.put("Secret", "cacerts", owned, data={key: text_of(value) for key, value in content.items()})
        self.chain = chain
        return issue("istiod", not_after=NOW + timedelta(days=1), issuer=Pair(chain[0], key))

    def put(
        self, kind: str, name: str, labels: dict[str, str] | None = None, namespace: str = SYSTEM, **rest: Any
    ) -> Object:
        folder = PLURALS.get(kind, f"/api/v1/namespaces/{{}}/{kind.lower()}s").format(namespace)
        metadata: Object = {"name": name, "labels": labels or {}, "generation": 1}
        if "{}" in PLURALS.get(kind, "{}"):
            metadata["namespace"] = namespace
        if kind == "Deployment":
            counts = ("replicas", "updatedReplicas", "availableReplicas", "observedGeneration")
            rest.setdefault("status", dict.fromkeys(counts, 1))
        api_version = folder.partition("/namespaces")[0].removeprefix("/apis/").removeprefix("/api/")
        obj = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}
        return self.api.put(f"{folder}/{name}", obj)

    def serve(self) -> None:
        """Have istiod and all proxies answer, with the certificates that there are now."""
        clusterz = [{"id": name, "syncStatus": "synced"} for name in NAMES]
        networkz = [
            {
                "Network": f"network-{name}",
                "Addr": f"203.0.113.{number}",
                "Port": 15443,
                "Cluster": name,
            }
            for number, name in enumerate(NAMES, 1)
        ]
        pages: Object = {"clusterz": clusterz, "networkz": networkz, "syncz": [], "endpointShardz": {}}
        pages["configz"] = self.policies
        self.api.listen(ISTIOD, 15014, {f"/debug/{page}": answer for page, answer in pages.items()})
        pem = self.folder / f"{self.name}-istiod.pem"
        pem.write_bytes(self.leaf.pem + self.leaf.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self.api.listen(ISTIOD, 15012, {}, context)
        for pod in (GATEWAY, "web-1", f"verify-{self.name}", "exomesh-certificate-probe"):
            self.api.listen(pod, 15000, self.proxy_pages())

    def proxy_pages(self) -> Object:
        chain = {"inline_bytes": text_of(self.leaf.pem + rules.chain_pem(self.chain).encode())}
        secret = {"name": "default", "secret": {"tls_certificate": {"certificate_chain": chain}}}
        trusted = {"inline_bytes": text_of(rules.chain_pem(self.root.chain))}
        roots = {"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": trusted}}}
        endpoints = [
            {
                "endpoint_config": {
                    "cluster_name": f"outbound|3000||verify-{name}.exomesh-verify.svc.cluster.local",
                    "endpoints": [{"lb_endpoints": [self._endpoint(number)]}],
                }
            }
            for number, name in enumerate(NAMES, 1)
        ]
        query = "resource=dynamic_endpoint_configs&include_eds&name_regex=.*[.]exomesh-verify[.]svc[.].*"
        secrets = {"@type": "envoy.admin.v3.SecretsConfigDump", "key": "a key that nobody may see"}
        clusters = {"@type": "envoy.admin.v3.ClustersConfigDump", "version_info": "7"}
        return {
            "/config_dump?resource=dynamic_active_secrets": {"configs": [secret, roots]},
            envoy.UPDATES_REJECTED: {},
            envoy.SERVER_INFO: {"node": {"metadata": {"ISTIO_VERSION": "1.31.1"}}},
            envoy.REJECTED_ROUTES: {},
            "/config_dump?include_eds": {"configs": [secrets, clusters]},
            f"/config_dump?{query}": {"configs": endpoints},
        }

    @staticmethod
    def _endpoint(number: int) -> Object:
        address = {"address": f"203.0.113.{number}", "port_value": 15443}
        return {"endpoint": {"address": {"socket_address": address}}}

    def start_pod(self, pod: Object) -> None:
        """What injector, scheduler and kubelet do with a new pod."""
        variables = {**ENVIRONMENT, "ISTIO_META_NETWORK": f"network-{self.name}"}
        env = [{"name": key, "value": value.format(name=self.name)} for key, value in variables.items()]
        proxy = {"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.31.1", "env": env}
        if pod["metadata"]["name"] != ISTIOD:
            pod["spec"]["initContainers"] = [proxy]
        pod["status"] = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "istio-proxy", "restartCount": 1}],
        }

    def run_command(self, pod: str, command: list[str]) -> tuple[list[str], int]:
        """What curl writes in the test workload."""
        words = " ".join(command)
        account = "spiffe://cluster.local/ns/exomesh-verify/sa/verify-{}"
        if "time_connect" in words:
            times = "".join(f"{MARK}{kind}\t200\t0.0{n}\n" for kind in ("kept", "new") for n in range(1, 6))
            gateway = f"{MARK}gateway\t0.01\t000\tTLS alert\t"
            return [f"{times}{gateway}{MARK}api\t0.01\t401\t\t{API_SERVER.pem.decode()}"], 0
        destination = next(name for name in NAMES if f"verify-{name}." in words)
        headers = (
            destination,
            account.format(self.name),
            account.format(destination),
            quote(self.members[destination].leaf.pem.decode()),
            f"203.0.113.{NAMES.index(destination) + 1}:15443",
            "- -",
        )
        return ["\t".join((f"hello{MARK}0", "200", *headers, ""))], 0


class RunningMesh:
    """Clusters vie and fra, each with a remote secret of the other."""

    def __init__(self, folder: Path) -> None:
        key = rules.new_key(KeyKind("ecdsa-p256"))
        root = Authority((rules.new_root(key, "Istio", timedelta(days=3650), NOW),), key)
        self.clusters = {name: RunningCluster(folder, name, root) for name in NAMES}
        for name, peer in (NAMES, NAMES[::-1]):
            self.clusters[name].members = self.clusters
            self.trust(name, peer, f"token-for-{name}")

    def __getitem__(self, name: str) -> RunningCluster:
        return self.clusters[name]

    def trust(self, name: str, peer_name: str, token: str) -> None:
        """Give a cluster a remote secret of a peer."""
        cluster, peer = self.clusters[name], self.clusters[peer_name]
        server = {"server": peer.api.url, "certificate-authority-data": text_of(CA_OF_TESTS.pem)}
        document = {
            "clusters": [{"name": peer.name, "cluster": server}],
            "users": [{"name": peer.name, "user": {"token": token}}],
            "contexts": [{"name": peer.name, "context": {"cluster": peer.name, "user": peer.name}}],
            "current-context": peer.name,
        }
        metadata: Object = {
            "name": f"istio-remote-secret-{peer.name}",
            "namespace": SYSTEM,
            "labels": {"istio/multiCluster": "true", "app.kubernetes.io/managed-by": "exomesh.istio"},
            "annotations": {"networking.istio.io/cluster": peer.name},
        }
        path = f"/api/v1/namespaces/{SYSTEM}/secrets/{metadata['name']}"
        content = {peer.name: text_of(yaml.safe_dump(document))}
        cluster.api.put(path, {"kind": "Secret", "metadata": metadata, "data": content})

    @property
    def members(self) -> list[Object]:
        return [
            {
                "name": name,
                "network": f"network-{name}",
                "kubeconfig": str(cluster.api.kubeconfig),
                "peers": [peer for peer in NAMES if peer != name],
            }
            for name, cluster in self.clusters.items()
        ]

    def run(self, module: str, **options: Any) -> Object:
        """The result of a module that is told of all members."""
        return run_module(module, **{"members": self.members, **options})

    def close(self) -> None:
        for cluster in self.clusters.values():
            cluster.api.close()
