"""The container images that manifests ask for, made here and written as one archive for `ctr images
import`.

Layers are kept apart by what changes together, and shared: every image that needs a shell or iptables has
the same first layer. Nothing is compressed, because each node unpacks the archive itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# iptables: istio-init. curl: the curl image. busybox: a shell and the small tools around it.
PACKAGES = ("iptables", "curl", "busybox-static")
SHELL_TOOLS = (
    "cat",
    "env",
    "grep",
    "hostname",
    "id",
    "ls",
    "nc",
    "ps",
    "sh",
    "sleep",
    "test",
    "timeout",
    "true",
    "wget",
)

WEBTEST = "exo.container-registry.com/exoscale-images/exo-webtest"
CURL = ("docker.io/curlimages/curl:8.16.0", "docker.io/curlimages/curl:latest")
PAUSE = "registry.k8s.io/pause:3.10"


@dataclasses.dataclass(frozen=True)
class Image:
    """One image: all its names, its layers from the lowest up, and what it runs."""

    names: tuple[str, ...]
    layers: tuple[bytes, ...]
    config: Mapping[str, Any]


class Layer:
    """A tar in memory whose bytes depend on its content alone."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> Layer:
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(content), mode
        self._tar.addfile(entry, io.BytesIO(content))
        return self

    def program(self, path: str, source: Path) -> Layer:
        return self.file(path, source.read_bytes(), 0o755)

    def folder(self, path: str, mode: int = 0o755) -> Layer:
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(entry)
        return self

    def link(self, path: str, target: str) -> Layer:
        entry = tarfile.TarInfo(path)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)
        return self

    def content(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def write_archive(target: Path, parts: Mapping[str, Path], bootstrap: Path, istio_version: str) -> None:
    """Write all images to `target`.

    `parts` are the cache folders by product; `bootstrap` is Istio's Envoy template.
    """
    istio = parts["istio"]
    base = ((parts["rootfs"] / "rootfs.tar").read_bytes(), _shell_tools())
    pilot = (
        Layer()
        .program("usr/local/bin/pilot-discovery", istio / "pilot-discovery")
        .folder("tmp", 0o1777)
        .content()
    )
    proxy = (
        Layer()
        .program("usr/local/bin/envoy", parts["envoy"] / "envoy")
        .program("usr/local/bin/pilot-agent", istio / "pilot-agent")
        .file("var/lib/istio/envoy/envoy_bootstrap_tmpl.json", bootstrap.read_bytes())
        .content()
    )
    webtest = Layer().program("exo-webtest", parts["webtest"] / "exo-webtest").content()
    server = {"Entrypoint": ["/exo-webtest"], "User": "1000:1000", "ExposedPorts": {"3000/tcp": {}}}
    images = [
        Image(
            (f"docker.io/istio/pilot:{istio_version}",),
            (pilot,),
            {"Entrypoint": ["/usr/local/bin/pilot-discovery"], "User": "1337:1337"},
        ),
        Image(
            (f"docker.io/istio/proxyv2:{istio_version}",),
            (*base, proxy),
            {"Entrypoint": ["/usr/local/bin/pilot-agent"]},
        ),
        Image(CURL, base, {"Entrypoint": ["curl"], "User": "100:101"}),
        # Waiting for ever is all that a pause container does.
        Image((PAUSE,), (webtest,), {"Entrypoint": ["/exo-webtest", "-pause"], "User": "65535:65535"}),
        *(
            Image((f"{WEBTEST}:{version}",), (webtest,), {**server, "Env": [f"VERSION={version}"]})
            for version in ("v1", "v2", "v3")
        ),
    ]
    _write(target, images)


def _shell_tools() -> bytes:
    layer = Layer()
    for tool in SHELL_TOOLS:
        layer.link(f"bin/{tool}", "busybox")
    # What Debian's maintainer scripts would have set up; an extracted system has not run them.
    for tool in (
        "iptables",
        "iptables-save",
        "iptables-restore",
        "ip6tables",
        "ip6tables-save",
        "ip6tables-restore",
    ):
        layer.link(f"usr/sbin/{tool}", "xtables-nft-multi")
    accounts = "root:x:0:0:root:/:/bin/sh\ncurl:x:100:101::/:/bin/sh\nistio-proxy:x:1337:1337::/:/bin/sh\n"
    return layer.file("etc/passwd", accounts.encode()).folder("tmp", 0o1777).content()


def _write(target: Path, images: list[Image]) -> None:
    """The archive format of `docker save`: a manifest of configs and layers, each layer once."""
    manifest, written = [], set()
    with tarfile.open(target, "w") as archive:

        def add(name: str, content: bytes) -> None:
            if name not in written:
                written.add(name)
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))

        digests: dict[int, str] = {}
        for image in images:
            for layer in image.layers:
                digests.setdefault(id(layer), hashlib.sha256(layer).hexdigest())
            layers = [digests[id(layer)] for layer in image.layers]
            environment = [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                *image.config.get("Env", []),
            ]
            config = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": {**image.config, "Env": environment},
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layers]},
                    "history": [{"created_by": "exolab"} for _ in layers],
                },
                sort_keys=True,
            ).encode()
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            add(name, config)
            for digest, layer in zip(layers, image.layers, strict=True):
                add(f"{digest}.tar", layer)
            manifest.append(
                {"Config": name, "RepoTags": image.names, "Layers": [f"{digest}.tar" for digest in layers]}
            )
        add("manifest.json", json.dumps(manifest).encode())
