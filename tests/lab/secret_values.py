"""Every secret that a lab's mesh has, in every form in which it could show itself."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import yaml

from .runs import RunningLab


def secret_values(lab: RunningLab, members: tuple[str, ...]) -> dict[str, set[str]]:
    """The forms of every secret, by what it is."""
    root_key = next((lab.path / "mesh").rglob("root-key.pem")).read_text()
    return secrets_of_run(lab, members, lab.path / "mesh", root_key)


def secrets_of_run(
    lab: RunningLab, members: tuple[str, ...], state: Path, root_key: str
) -> dict[str, set[str]]:
    """The same of a run that has its state elsewhere."""
    credentials = yaml.safe_load((lab.inventory / "group_vars" / "mesh.yml").read_text())
    secrets = {"API secret": credentials["kubeconfig_api_secret"], "root key": root_key}
    for name in members:
        kubeconfig = yaml.safe_load((state / name / "kubeconfig").read_text())
        secrets[f"{name}: client key"] = kubeconfig["users"][0]["user"]["client-key-data"]
        found = json.loads(lab.kubectl(name, "get", "secrets", "--all-namespaces", "-o=json"))["items"]
        for secret in found:
            for key, value in secret.get("data", {}).items():
                if re.search(r"key|token|^cluster\d$", key):
                    secrets[f"{name}: {secret['metadata']['name']} {key}"] = value
    # of each: client key, intermediate CA, a remote secret of every peer, its own token
    assert len(secrets) >= 2 + len(members) * (1 + 1 + (len(members) - 1) + 1)
    return {what: forms_of(secret) for what, secret in secrets.items()}


def forms_of(secret: str) -> set[str]:
    """A secret as it is, to and from base64, and its lines, as a key may be printed by lines."""
    forms = {secret.strip(), base64.b64encode(secret.encode()).decode()}
    try:
        decoded = base64.b64decode(secret, validate=True).decode()
    except ValueError:
        decoded = secret
    forms.add(decoded.strip())
    forms |= {
        line
        for form in (decoded, secret)
        for line in form.splitlines()
        if len(line) >= 60 and "-----" not in line
    }
    return forms
