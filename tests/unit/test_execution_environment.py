"""What an image for AWX would be built from. The image itself is not built: that takes a registry."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from exolab.preflight import CNI_PACKAGE, PROGRAMS
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run(*words: str | Path, cwd: Path = ROOT) -> str:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false"}
    command = [str(word) for word in words]
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def requirements(text: str) -> dict[str, Requirement]:
    """Python requirements by name; of those with a marker the ones that hold for a new Python."""
    lines = [re.sub(r"\s+#.*", "", line) for line in text.splitlines() if re.match(r"\w", line)]
    found = [Requirement(line) for line in lines]
    new = {"python_version": "3.13"}
    return {one.name: one for one in found if one.marker is None or one.marker.evaluate(new)}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As `make ee-context` makes it, of a folder that has only what the definition names."""
    folder = tmp_path_factory.mktemp("ee")
    run(BIN / "ansible-galaxy", "collection", "build", "--output-path", folder / "build/collection")
    (folder / "requirements").mkdir()
    for name in ("execution-environment.yml", "requirements.yml", "requirements/run.txt"):
        shutil.copy(ROOT / name, folder / name)
    run(
        BIN / "ansible-builder", "create", "--output-filename", "Containerfile", "--context", "ee", cwd=folder
    )
    yield folder / "ee"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def containerfile(context: Path) -> str:
    return (context / "Containerfile").read_text()


def test_the_context_has_the_artifact_and_what_it_stands_on(context: Path) -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    artifacts = [path.name for path in (context / "_build/collection").iterdir()]
    assert artifacts == [f"exomesh-istio-{version}.tar.gz"]
    collections = yaml.safe_load((context / "_build/requirements.yml").read_text())
    assert collections == yaml.safe_load((ROOT / "requirements.yml").read_text())


def test_the_base_image_is_a_variable(containerfile: str) -> None:
    first, *_ = containerfile.splitlines()
    assert first.startswith('ARG EE_BASE_IMAGE="')
    assert "FROM $EE_BASE_IMAGE AS base" in containerfile


def test_ansible_is_what_the_tests_ran_with(containerfile: str) -> None:
    refs = re.search(r'ARG ANSIBLE_INSTALL_REFS="(.+)"', containerfile)
    assert refs
    pinned = requirements(
        "\n".join((ROOT / f"requirements/{name}.txt").read_text() for name in ("run", "dev"))
    )
    wanted = sorted(f"{name}{pinned[name].specifier}" for name in ("ansible-core", "ansible-runner"))
    assert sorted(refs[1].split()) == wanted


def test_istioctl_comes_by_the_role_to_where_the_role_looks_for_it(containerfile: str) -> None:
    """So there is no second table of checksums, and no second place that says which release."""
    (line,) = [line for line in containerfile.splitlines() if "include_role" in line]
    assert "-a name=exomesh.istio.istioctl" in line
    folder = re.search(r"-e mesh_state_dir=(\S+)", line)
    assert folder
    defaults = yaml.safe_load((ROOT / "roles/istioctl/defaults/main.yml").read_text())
    assert defaults["istioctl_preinstalled"] == f"{folder[1]}/istioctl"
    assert f"chmod -R a+rX {folder[1]}" in line
    assert not re.search(r"[0-9a-f]{64}", containerfile)


def test_what_the_builder_finds_in_the_installed_collections(context: Path, tmp_path: Path) -> None:
    installed = tmp_path / "ansible_collections"
    found = next(Path(sys.prefix).glob("lib/python*/site-packages/ansible_collections"))
    for name in ("kubernetes", "community"):
        shutil.copytree(found / name, installed / name)
    artifact = next((context / "_build/collection").iterdir())
    run(BIN / "ansible-galaxy", "collection", "install", "--offline", "-p", tmp_path, artifact)
    build = context / "_build"
    run(
        *(BIN / "ansible-builder", "introspect", tmp_path),
        *("--user-pip", build / "requirements.txt", "--exclude-pip-reqs", build / "exclude-requirements.txt"),
        *("--exclude-bindep-reqs", build / "exclude-bindep.txt"),
        *("--write-pip", tmp_path / "pip.txt", "--write-bindep", tmp_path / "bindep.txt"),
    )
    python = (tmp_path / "pip.txt").read_text()
    ours = set(re.findall(r"(?m)^([\w-]+).*# from collection exomesh.istio$", python))
    # The builder leaves out what ansible-core brings.
    assert ours == set(requirements((ROOT / "requirements.txt").read_text())) - {"PyYAML"}
    assert {"cryptography", "exoscale", "hvac", "kubernetes"} <= ours
    assert not re.search(r"boto|azure", python)
    packages = [line.split("#")[0].strip() for line in (tmp_path / "bindep.txt").read_text().splitlines()]
    assert [package for package in packages if package] == ["ca-certificates [platform:rpm platform:dpkg]"]


def test_the_pins_are_within_the_ranges_of_the_collection() -> None:
    pinned = requirements((ROOT / "requirements/run.txt").read_text())
    for name, wanted in requirements((ROOT / "requirements.txt").read_text()).items():
        (pin,) = pinned[name].specifier
        assert wanted.specifier.contains(pin.version), name


def test_bindep_names_the_packages_of_the_lab() -> None:
    lines = (ROOT / "bindep.txt").read_text().splitlines()
    lab = {line.removesuffix(" [lab]") for line in lines if line.endswith(" [lab]")}
    assert lab == {*PROGRAMS.values(), CNI_PACKAGE}
    browser = {line.removesuffix(" [test]") for line in lines if line.endswith(" [test]")}
    script = (ROOT / ".ci/run").read_text()
    assert browser
    assert all(package in script for package in browser)
