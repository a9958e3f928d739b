# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what server-side apply changes, for check mode, diff and the run alike (private to the collection).

Every object is compared with what the API itself would make of it (a server-side dry run), so defaults,
conversions and fields of other managers need no rules here. There is one exception: items that someone added
to a list of ours, such as a port of a Service. Server-side apply keeps them, as they belong to their manager.

The API is not asked about an object that already has exactly the wanted values, and no field that an earlier
form of ours left in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._base.errors import ExomeshError
from .._base.waiting import concurrently, pause, wait_until_met
from .api import ApiError, Object, ObjectRef
from .client import MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient, is_ours

with suppress(ImportError):  # require("kubernetes") reports it
    import yaml

Fields = dict[str, Any]
"""Flat view of an object: value by path, as in ``spec.template.spec.containers[istiod].image``."""

_SERVER_FIELDS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")

CREATE, UPDATE, DELETE, UNCHANGED = "create", "change", "delete", "unchanged"

Normalise = Callable[[Object], Object]

_WORTH_A_LIST = 3
"""From this number on, one request reads all objects of a kind."""

_ITEM_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "initContainers": ("name",),
    "ports": ("port", "containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
    "webhooks": ("name",),
}
"""Lists whose items server-side apply merges, and the fields that identify an item."""

CONFLICT = 409
"""HTTP status of a write when somebody else wrote before it."""

NOT_FOUND = 404
"""HTTP status of a write when somebody else deleted the object before it."""

_CONFLICT_PAUSES = (0.05, 0.2, 0.5, 1.0)
"""Seconds to wait after each write that failed with a conflict; one more attempt follows each pause."""

_PUT_BACK_PAUSES = (0.0, 0.2, 1.0)
"""Seconds to wait after each removal of what others added; after the last one, removal is given up."""

_KINDS_WITH_SUCH_LISTS = (
    "DaemonSet",
    "Deployment",
    "MutatingWebhookConfiguration",
    "Service",
    "ValidatingWebhookConfiguration",
)


@dataclass(frozen=True)
class ObjectChange:
    """The change of one object; ``before`` and ``after`` hold only the fields that differ.

    :param cluster: the object's cluster, if it is not the one that all other changes are in.
    """

    ref: ObjectRef
    action: str
    before: Fields
    after: Fields
    cluster: str | None = None

    @property
    def title(self) -> str:
        return f"{self.ref} in {self.cluster}" if self.cluster else str(self.ref)


def refuse_selected(client: KubernetesClient, api_version: str, kind: str, labels: Mapping[str, str]) -> None:
    """Refuse to go on while objects that are not ours select pods with these labels.

    :raises ExomeshError: ``in_use``.
    """
    users = [
        str(ObjectRef.of(obj))
        for obj in client.list_objects(api_version, kind)
        if not is_ours(obj) and _selects(obj, labels)
    ]
    if users:
        raise ExomeshError(
            f"It is in use: its pods are selected by {', '.join(users)}",
            "in_use",
            cluster=client.name,
            next_step="Delete these objects, or have them select other pods; nothing was deleted",
        )


def _selects(obj: Object, labels: Mapping[str, str]) -> bool:
    """Return whether an object has a selector that consists only of labels among these."""
    selector = (obj.get("spec") or {}).get("selector") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def refuse_foreign(client: KubernetesClient, objects: Iterable[Object]) -> dict[ObjectRef, Object]:
    """Check that live objects are ours: each has our label if its wanted form has it.

    :returns: the live objects that are ours.
    :raises ExomeshError: ``foreign_object``.
    """
    own = [ObjectRef.of(obj) for obj in objects if is_ours(obj)]
    live = concurrently(client.get, own)
    foreign = [str(ref) for ref, obj in zip(own, live, strict=True) if obj and not is_ours(obj)]
    if foreign:
        raise ExomeshError(
            f"{', '.join(foreign)} exists, but was not made by this collection: it is left as it is",
            "foreign_object",
            cause=f"It lacks the label {MANAGED_BY_LABEL}={MANAGED_BY}",
            next_step="Choose another name for ours, or give the object that label to hand it over",
        )
    return {ref: obj for ref, obj in zip(own, live, strict=True) if obj}


def _compare(
    client: KubernetesClient, live: Object | None, obj: Object, field_manager: str, normalise: Normalise
) -> ObjectChange:
    ref = ObjectRef.of(obj)
    if live is None:
        return ObjectChange(ref, CREATE, {}, {})
    applied = _applied_fields(live, field_manager)
    if _has_all(_comparable(normalise(obj)), _comparable(normalise(live)), applied):
        return ObjectChange(ref, UNCHANGED, {}, {})
    wanted = _dry_run(client, live, obj, field_manager)
    before, after = (flatten(_comparable(normalise(side)), ref.kind == "Secret") for side in (live, wanted))
    different = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    return ObjectChange(
        ref,
        UPDATE if different else UNCHANGED,
        {path: before[path] for path in different if path in before},
        {path: after[path] for path in different if path in after},
    )


def compare_all(
    client: KubernetesClient,
    objects: Iterable[Object],
    field_manager: str,
    normalise: Normalise = lambda obj: obj,
    known: Mapping[ObjectRef, Object] | None = None,
) -> list[ObjectChange]:
    """Return what server-side apply of objects would change, in their order. This changes nothing.

    :param normalise: applied to the live and to the wanted object; removes what does not count.
    :param known: live objects that were read already.
    :raises ApiError: the API refuses an object.
    """
    wanted = list(objects)
    return concurrently(
        lambda pair: _compare(client, *pair, field_manager, normalise),
        list(zip(live_objects(client, wanted, known), wanted, strict=True)),
    )


def live_objects(
    client: KubernetesClient, objects: Sequence[Object], known: Mapping[ObjectRef, Object] | None = None
) -> list[Object | None]:
    """Return the live forms of objects, in their order. Objects with a common label are read together.

    :param known: live objects that were read already.
    """
    found = dict(known or {})
    families: dict[tuple[str, str, str | None], list[Object]] = {}
    for obj in objects:
        if ObjectRef.of(obj) in found:
            continue
        family = (obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"))
        families.setdefault(family, []).append(obj)

    def listed(family: tuple[str, str, str | None], members: Sequence[Object]) -> list[Object]:
        labels = set.intersection(*(set((obj["metadata"].get("labels") or {}).items()) for obj in members))
        if len(members) < _WORTH_A_LIST or not labels:
            return []
        selector = ",".join(f"{name}={value}" for name, value in sorted(labels))
        return client.list_objects(*family, labels=selector)

    for answer in concurrently(lambda family: listed(*family), families.items()):
        found |= {ObjectRef.of(obj): obj for obj in answer}
    # An object that has lost the label is not in a list, but may exist.
    return concurrently(lambda ref: found.get(ref) or client.get(ref), map(ObjectRef.of, objects))


def _applied_fields(live: Object, field_manager: str) -> Mapping[str, Any] | None:
    """Return the fields that a manager applied, as the API keeps them; None if none or in another version."""
    entries = [
        entry
        for entry in live["metadata"].get("managedFields") or []
        if entry.get("manager") == field_manager and entry.get("operation") == "Apply"
    ]
    if len(entries) != 1 or entries[0].get("apiVersion") != live["apiVersion"]:
        return None
    fields: Mapping[str, Any] = entries[0].get("fieldsV1") or {}
    return fields


def _has_all(wanted: Any, live: Any, applied: Mapping[str, Any] | None) -> bool:
    """Return whether server-side apply of ``wanted`` leaves ``live`` as it is; False if only the API knows.

    :param applied: the fields that our manager applied here before: ``f:NAME`` for a field, ``k:KEYS`` for an
        item of a list whose items have keys; empty for a value that apply replaces as a whole.
    """
    if applied and isinstance(wanted, Mapping) and isinstance(live, Mapping):
        # Apply would remove fields that we applied before and do not want any more.
        left = any(key[:2] == "f:" and key[2:] not in wanted and key[2:] in live for key in applied)
        return not left and all(
            name in live and _has_all(value, live[name], applied.get(f"f:{name}"))
            for name, value in wanted.items()
        )
    items = [(json.loads(key[2:]), value) for key, value in (applied or {}).items() if key[:2] == "k:"]
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live) == len(items):

        def applied_to(item: Mapping[str, Any]) -> Mapping[str, Any] | None:
            # A key that the item lacks has its default value.
            return next((of for keys, of in items if all(item.get(k, v) == v for k, v in keys.items())), None)

        return all(_has_all(one, other, applied_to(one)) for one, other in zip(wanted, live, strict=True))
    return bool(wanted == live)


def without_surplus(live: Object, obj: Object) -> Object | None:
    """Return the live object with ``obj`` over it, without the items that someone added to lists of ``obj``.

    :returns: None if nobody added items, so that server-side apply is enough.
    """
    if obj["kind"] not in _KINDS_WITH_SUCH_LISTS:
        return None
    exact, surplus = _overlaid(live, obj)
    return exact if surplus else None


def _dry_run(client: KubernetesClient, live: Object, obj: Object, field_manager: str) -> Object:
    exact = without_surplus(live, obj)
    try:
        return (
            client.replace(exact, dry_run=True) if exact else client.apply(obj, field_manager, dry_run=True)
        )
    except ApiError as error:
        if not error.is_webhook_failure:
            raise
        # istiod validates its own kinds. If it is away, the run waits for it, but the comparison does not.
        return _overlaid(live, obj)[0]


def _overlaid(live: Object, obj: Object) -> tuple[Object, bool]:
    """Return the live object with ``obj`` over it, and whether items were removed that ``obj`` lacks."""
    surplus = False

    def merged(live: Any, wanted: Any, name: str) -> Any:
        nonlocal surplus
        if isinstance(live, Mapping) and isinstance(wanted, Mapping):
            both = {key: merged(live[key], wanted[key], key) for key in wanted if key in live}
            return {**live, **wanted, **both}
        if isinstance(live, list) and isinstance(wanted, list) and name in _ITEM_KEYS:
            known = {_item_key(item, name): item for item in live}
            keys = [_item_key(item, name) for item in wanted]
            surplus |= not set(known) <= set(keys)
            return [merged(known.get(key, {}), item, "") for key, item in zip(keys, wanted, strict=True)]
        return live if wanted is None else wanted

    return merged(live, obj, ""), surplus


def apply_patiently(client: KubernetesClient, obj: Object, field_manager: str, timeout: float) -> None:
    """Do a server-side apply; wait if it fails because a new kind or an admission webhook is not ready yet.

    Items that someone added to the object's lists are removed.
    """
    failures: list[ApiError] = []

    def unmet() -> str | None:
        try:
            remove_surplus(client, obj)
            client.apply(obj, field_manager)
        except ApiError as error:
            if not (error.is_webhook_failure or error.reason == "NoSuchKind"):
                raise
            failures.append(error)
            return error.message
        return None

    if missing := wait_until_met(unmet, timeout):
        if failures:
            raise failures[-1]
        raise ExomeshError(
            f"{ObjectRef.of(obj)} was not written in time",
            "not_applied",
            cluster=client.name,
            cause=missing,
            next_step="Look whether its API is slow, or an admission webhook, then run this again",
        )


def delete_for_sure(client: KubernetesClient, ref: ObjectRef) -> None:
    """Delete a temporary object.

    :raises ExomeshError: ``left_behind``, with the command that deletes it.
    """
    try:
        client.delete(ref)
    except ExomeshError as error:
        place = f"-n {ref.namespace} " if ref.namespace else ""
        raise ExomeshError(
            f"{ref}, which was made for a while, could not be deleted",
            "left_behind",
            cluster=client.name,
            cause=error.message,
            next_step=f"Delete it: kubectl {place}delete {ref.kind.lower()} {ref.name}",
        ) from None


def remove_surplus(client: KubernetesClient, obj: Object) -> None:
    """Remove the items that someone added to lists of ``obj``, if there are any.

    :raises ExomeshError: ``put_back``: somebody adds the items again each time that they are removed.
    """
    if obj["kind"] not in _KINDS_WITH_SUCH_LISTS:
        return
    ref = ObjectRef.of(obj)

    def write(live: Object | None) -> Object | None:
        exact = live and without_surplus(live, obj)
        return client.replace(exact) if exact else None

    for wait in _PUT_BACK_PAUSES:
        if write_anew(client, ref, write) is None:
            return
        pause(wait, f"{ref} of cluster {client.name} to stay as it was written")
    live = client.get(ref)
    exact = live and without_surplus(live, obj)
    if not live or not exact:
        return
    raise ExomeshError(
        f"{ref} keeps what is not ours in {', '.join(_removed(live, exact))}",
        "put_back",
        cluster=client.name,
        cause="A mutating policy or controller puts it back as often as it is removed",
        next_step=f"Exempt {ref} from that policy (Kyverno, Gatekeeper, a mutating webhook), or have it "
        "leave these fields alone",
    )


def write_anew(
    client: KubernetesClient, ref: ObjectRef, write: Callable[[Object | None], Object | None]
) -> Object | None:
    """Read an object and write it. If somebody else wrote in between, repeat both after a pause.

    :param write: takes the live object; returns what the API made of it, or None if nothing must be written.
    :returns: the result of ``write``.
    :raises ExomeshError: ``always_changed``: somebody else wrote in between in every attempt.
    """
    for wait in (*_CONFLICT_PAUSES, None):
        live = client.get(ref)
        try:
            return write(live)
        except ApiError as error:
            is_gone = live is not None and error.status == NOT_FOUND
            if error.status != CONFLICT and not is_gone:
                raise
            if wait is None:
                raise always_changed(client, ref) from None
        pause(wait, f"a moment in which nobody else changes {ref} of cluster {client.name}")
    raise AssertionError("unreachable")


def always_changed(client: KubernetesClient, ref: ObjectRef) -> ExomeshError:
    """Return the error for an object that cannot be written, as somebody else always writes in between."""
    return ExomeshError(
        f"{ref} could not be written, as it was changed in between {len(_CONFLICT_PAUSES) + 1} times",
        "always_changed",
        cluster=client.name,
        cause="A controller or another run writes it all the time",
        next_step="Look in its metadata.managedFields who that is, and stop it; then run this again",
    )


def _removed(live: Object, exact: Object) -> list[str]:
    """Return the fields of the live object that are missing or different in the exact object."""
    before, after = flatten(_comparable(live)), flatten(_comparable(exact))
    return sorted(path for path in before if before[path] != after.get(path)) or ["one of its lists"]


def flatten(value: Any, secret: bool = False) -> Fields:
    """Return the flat view of a tree of dicts and lists.

    If each item of a list has a name of its own, names stand for positions, so a moved item is no change.

    :param secret: the tree is a Secret: its values are shown as hashes.
    """
    fields: Fields = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, Mapping) and node:
            for key, child in node.items():
                text = str(key)
                walk(child, f"{path}['{text}']" if "." in text else f"{path}.{text}" if path else text)
        elif isinstance(node, list) and node:
            for name, child in zip(_item_names(node), node, strict=True):
                walk(child, f"{path}[{name}]")
        else:
            hidden = secret and path.startswith(("data", "stringData"))
            fields[path] = hash_of(str(node)) if hidden else node

    walk(value, "")
    return fields


def hash_of(secret: str) -> str:
    """Return a short fingerprint that tells secrets apart without showing them."""
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()[:12]


def render_diff(changes: Sequence[ObjectChange]) -> dict[str, str]:
    """Return the changes as Ansible's ``diff``: YAML texts of the fields before and after."""
    sides: dict[str, dict[str, Any]] = {"before": {}, "after": {}}
    for change in changes:
        title = change.title
        if change.action == CREATE:
            sides["after"][title] = change.after or "created"
        elif change.action == DELETE:
            sides["before"][title] = change.before or "deleted"
        elif change.action == UPDATE:
            sides["before"][title] = change.before
            sides["after"][title] = change.after
    return {side: _dump(content) if content else "" for side, content in sides.items()}


def summarise(changes: Iterable[ObjectChange]) -> dict[str, list[str]]:
    """Return the names of the objects, by action."""
    summary: dict[str, list[str]] = {CREATE: [], UPDATE: [], DELETE: [], UNCHANGED: []}
    for change in changes:
        summary[change.action].append(change.title)
    return summary


def _comparable(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _SERVER_FIELDS}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def _item_key(item: Any, name: str) -> tuple[Any, ...]:
    fields = {"protocol": "TCP", **item} if name == "ports" else item
    return tuple(fields.get(key) for key in _ITEM_KEYS[name])


def _item_names(items: list[Any]) -> list[str]:
    names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
    if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
        return [str(name) for name in names]
    return [str(index) for index in range(len(items))]


def _dump(content: Any) -> str:
    """Return YAML that shows a text of several lines line by line, so that people can read its diff."""

    class BlockDumper(yaml.SafeDumper):
        pass

    def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    BlockDumper.add_representer(str, represent_text)
    return str(yaml.dump(content, Dumper=BlockDumper, default_flow_style=False, sort_keys=False, width=160))
