# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory plugin: the SKS clusters of an Exoscale account as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sks
short_description: Exoscale SKS clusters as hosts
version_added: 0.1.0
description:
  - Makes every SKS cluster a host on which tasks run locally. The host has all the variables that the roles
    of this collection need.
  - Needs a YAML file whose name ends in C(sks.yml) or C(sks.yaml).
  - "Sets for each host: C(sks_cluster) (the ID), C(sks_name), C(sks_zone), C(sks_state), C(sks_version),
    C(sks_cni), C(sks_level), C(sks_description), C(sks_endpoint), C(sks_created_at), C(sks_auto_upgrade),
    C(sks_addons), C(sks_labels), C(sks_nodepools), and C(ansible_connection), C(ansible_python_interpreter)."
  - The Python client lists clusters with one request for each zone. The exo CLI needs one more for each
    cluster. So O(backend=auto) prefers the client here if it is installed and a key is known.
  - No secret is cached. Cached values are never evaluated as templates. A cache folder or file that others
    may write is refused, so set O(cache_connection) to a folder in your home. A folder that does not exist is
    created, with access for you alone.
extends_documentation_fragment:
  - exomesh.istio.exoscale
  - constructed
  - inventory_cache
options:
  plugin:
    description: Marks the file as one for this plugin.
    type: str
    required: true
    choices: [exomesh.istio.sks]
  zones:
    description: Zones to look in. Without it, all zones are used.
    type: list
    elements: str
    default: []
  names:
    description: Names of the clusters to take, or patterns such as C(mesh-*). Without it, all are taken.
    type: list
    elements: str
    default: []
  labels:
    description: Labels that a cluster must have, with these values. The value V(*) matches any value.
    type: dict
    default: {}
  states:
    description: States of the clusters to take. An empty list takes every state.
    type: list
    elements: str
    default: [running, updating, upgrading]
  group:
    description: Group that gets all the hosts.
    type: str
    default: mesh
  hostname:
    description:
      - Template of the host's name, which can use the host's variables. The host's name becomes the cluster's
        name in the mesh. Without it, the name of the cluster is used.
      - It is an error if two clusters get the same name. V({{ sks_name }}-{{ sks_zone }}) tells them apart.
    type: str
  prefix:
    description:
      - Prefix of the names of the variables that describe the cluster.
      - C(sks_cluster) and C(sks_zone) are always set.
    type: str
    default: sks_
  on_failed_zone:
    description: What to do if a zone does not answer. V(fail) is an error. V(warn) takes the other zones.
    type: str
    choices: [fail, warn]
    default: fail
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
# mesh.sks.yml: all clusters with the label mesh=m1, in groups by zone and by label
plugin: exomesh.istio.sks
labels:
  mesh: m1
keyed_groups:
  - {prefix: zone, key: sks_zone}
  - {prefix: kubernetes, key: sks_version}
  - {prefix: label, key: sks_labels}
compose:
  mesh_network: "'network-' ~ sks_name"

# ansible-inventory -i mesh.sks.yml --graph
# @all:
#   |--@mesh:
#   |  |--mesh-a
#   |  |--mesh-b
#   |--@zone_de_fra_1:
#   |  |--mesh-a
#   ...

---
# Two zones, without the exo CLI, cached for an hour. A zone that fails only causes a warning
plugin: exomesh.istio.sks
zones: [de-fra-1, at-vie-2]
backend: api
hostname: "{{ sks_name }}-{{ sks_zone }}"
on_failed_zone: warn
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/exomesh-inventory
cache_timeout: 3600
"""

import json
import os
import re
import stat
import sys
from fnmatch import fnmatchcase
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.text import printable, printable_line
from ..module_utils._base.waiting import time_limit
from ..module_utils._exoscale.backend import EXOSCALE_ARGUMENTS, connect
from ..module_utils._exoscale.interface import Cluster as ClusterOfApi

Cluster = dict[str, Any]

_HOST_NAME = re.compile(r"\w[\w .@+-]*")
"""The host names that are allowed, as roles make paths of them, and programs get them as arguments."""


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]
    """The inventory plugin."""

    NAME = "exomesh.istio.sks"

    def verify_file(self, path: str) -> bool:
        """Return whether the file's name ends in sks.yml or sks.yaml."""
        return bool(super().verify_file(path)) and path.endswith(("sks.yml", "sks.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            clusters = self._clusters(path, cache)
        except ExomeshError as error:
            raise AnsibleParserError(printable(str(error))) from error
        self._tell_names_without_cluster(clusters)
        for cluster in clusters:
            if self._is_wanted(cluster):
                self._add(cluster)

    def _clusters(self, path: str, cache: bool) -> list[Cluster]:
        """Return all clusters of the zones, from the cache or from Exoscale."""
        key = self.get_cache_key(path)
        self._load_private_cache(key)
        if cache and self.get_option("cache"):
            cached = self._cached(key)
            if cached is not None:
                return cached
        clusters, complete = self._ask()
        # An incomplete answer would hide clusters until the cache expires.
        if self.get_option("cache") and complete:
            self._cache[key] = {"clusters": clusters}
        return clusters

    def _load_private_cache(self, key: str) -> None:
        """Load the cache plugin. Refuse files that others may write, as they could contain anything."""
        self.load_cache_plugin()
        folder = getattr(self._cache._plugin, "_cache_dir", None)
        if not (folder and self.get_option("cache")):
            return  # it has no files, or it is not used
        if not os.listdir(folder) and os.stat(folder).st_uid == os.geteuid():
            os.chmod(folder, 0o700)  # Ansible has just made it
        files = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(key)]
        for path in (folder, *files):
            if (trouble := _why_not_private(path)) is not None:
                raise AnsibleParserError(
                    f"The inventory's cache {path} is refused: {trouble}. Whoever writes it says what the "
                    "hosts are, and could have commands run here. Give cache_connection a folder of yours, "
                    "as ~/.cache/exomesh-inventory, or take that from the others (chown, chmod 700)."
                )

    def _cached(self, key: str) -> list[Cluster] | None:
        """Return the clusters in the cache, or None. Marks, as of a trusted template, are removed."""
        try:
            clusters = json.loads(json.dumps(self._cache[key]["clusters"]))
            return [ClusterOfApi(**cluster).as_dict() for cluster in clusters]
        except (KeyError, TypeError, ValueError):
            return None

    def _ask(self) -> tuple[list[Cluster], bool]:
        """Return the clusters of the zones, and whether every zone answered."""
        options = {name: self._untemplated(name) for name in EXOSCALE_ARGUMENTS}
        with time_limit(float(options["timeout"])):
            answer = connect(options, prefer="api").clusters_of(self.get_option("zones") or None)
        for error in answer.failed_zones.values():
            if self.get_option("on_failed_zone") == "fail":
                error.next_step = f"{error.next_step or 'See the cause'}, or set on_failed_zone: warn"
                raise error
            self.display.warning(printable(str(error)))
        return [cluster.as_dict() for cluster in answer.clusters], not answer.failed_zones

    def _untemplated(self, name: str) -> Any:
        """Return an option's value with its template resolved, as for a key from a lookup."""
        value = self.get_option(name)
        return self.templar.template(value) if isinstance(value, str) else value

    def _tell_names_without_cluster(self, clusters: list[Cluster]) -> None:
        """Warn of each entry of names that takes no cluster, as of a name with a typing error."""
        known = sorted({cluster["name"] for cluster in clusters})
        for name in map(str, self.get_option("names")):
            if not any(fnmatchcase(cluster, name) for cluster in known):
                self.display.warning(
                    f"names has {printable_line(name, 99)}, but no SKS cluster of the zones has such a name. "
                    f"The clusters are {printable_line(', '.join(known) or 'none', 2000)}"
                )

    def _is_wanted(self, cluster: Cluster) -> bool:
        names, states = self.get_option("names"), self.get_option("states")
        labels = cluster["labels"]
        return (
            (not names or any(fnmatchcase(cluster["name"], str(name)) for name in names))
            and (not states or cluster["state"] in states)
            and all(
                key in labels and str(value) in ("*", labels[key])
                for key, value in self.get_option("labels").items()
            )
        )

    def _add(self, cluster: Cluster) -> None:
        strict = self.get_option("strict")
        prefix = self.get_option("prefix")
        variables = {f"{prefix}{name}": value for name, value in cluster.items()}
        variables |= {
            "sks_cluster": cluster["id"],
            "sks_zone": cluster["zone"],
            "ansible_connection": "local",
        }
        host = self._host_name(cluster, variables)
        self.inventory.add_host(host, group=self.inventory.add_group(self.get_option("group")))
        for name, value in variables.items():
            self.inventory.set_variable(host, name, value)
        # Tasks run in the Python that runs Ansible, which has the libraries.
        self.inventory.set_variable(host, "ansible_python_interpreter", sys.executable)
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)

    def _host_name(self, cluster: Cluster, variables: dict[str, Any]) -> str:
        self.templar.available_variables = variables
        template = self.get_option("hostname")
        name = str(self.templar.template(template)) if template else cluster["name"]
        if not _HOST_NAME.fullmatch(name):
            raise AnsibleParserError(
                f"Cluster {printable_line(cluster['id'], 100)} in {cluster['zone']} would be the host "
                f"'{printable_line(name, 100)}', which is no name for one. Set hostname, for example to "
                "'{{ sks_cluster }}', or leave the cluster away by names or labels."
            )
        known = self.inventory.get_host(name)
        if known and known.vars.get("sks_cluster") != cluster["id"]:
            raise AnsibleParserError(
                f"the clusters {cluster['id']} in {cluster['zone']} and {known.vars.get('sks_cluster')} in "
                f"{known.vars.get('sks_zone')} would both be the host {name}. Set hostname, for example to "
                "'{{ sks_name }}-{{ sks_zone }}'."
            )
        return name


def _why_not_private(path: str) -> str | None:
    """Return why other users may have written a file or folder; None if they cannot, or it is missing."""
    try:
        found = [os.lstat(path), os.stat(path)]
    except FileNotFoundError:
        return None
    if any(each.st_uid not in (0, os.geteuid()) for each in found):
        return "it belongs to another user"
    if found[1].st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write it, its mode is {stat.S_IMODE(found[1].st_mode):04o}"
    return None
