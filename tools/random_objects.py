# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random objects of Istio's kinds, valid by the schemas of their CustomResourceDefinitions, for tests.

A name that nobody has changes nothing. So where a field asks for a host, a port or a label, most values are
those of the demo.
"""

from __future__ import annotations

import random
from typing import Any

Object = dict[str, Any]

HOST = "exo-webtest.exodemo.svc.cluster.local"
NAMESPACES = ("exodemo", "istio-system")
_HOSTS = (
    HOST,
    "exo-webtest",
    "exo-webtest.exodemo",
    "*.exodemo.svc.cluster.local",
    "*",
    "*.local",
    "other.test",
)
_WORDS: dict[str, tuple[Any, ...]] = {
    "host": _HOSTS,
    "hosts": (*_HOSTS, "*/*", "./*", "istio-system/*", f"exodemo/{HOST}"),
    "number": (3000, 15443, 80),
    "port": (3000, 15443, 80),
    "ports": ("3000", "15443", "80"),
    "exportTo": (".", "*", "exodemo"),
    "gateways": ("mesh", "istio-system/cross-network-gateway"),
    "subset": ("v1", "v2"),
    "name": ("v1", "v2", "http"),
    "kind": ("Service", "Gateway"),
    "scheme": ("HTTP", "HTTPS"),
    "jwksUri": ("https://other.test/keys",),
    "jwks_uri": ("https://other.test/keys",),
    "header": ("x-header", "x-other"),
    "protocol": ("HTTP", "TCP", "TLS", "HTTPS", "GRPC"),
    "prefix": ("/", "/index"),
    "exact": ("/", "exodemo", "GET"),
    "regex": (".*", "/[a-z]+"),
    "methods": ("GET", "POST"),
    "paths": ("/*", "/index"),
    "namespaces": ("exodemo", "istio-system", "other"),
    "principals": ("*", "cluster.local/ns/exodemo/sa/default"),
    "httpStatus": (503, 404),
    "status": (503, 200),
    "fixedDelay": ("0.1s", "1s"),
    "address": ("10.1.2.3", "other.test"),
    "addresses": ("10.1.2.3", "10.1.2.4"),
    "ipBlocks": ("10.0.0.0/8", "0.0.0.0/0"),
}
"""By the name of a field, values that mean something in the demo."""
_LABELS = ({"app": "exo-webtest"}, {"app": "curl"}, {"istio": "eastwestgateway"}, {"app": "none"})
_EXCLUSIVE = (
    {"targetRef", "targetRefs", "selector", "workloadSelector"},
    {"workloadSelector", "endpoints"},
    {"jwks", "jwksUri", "jwks_uri"},
)
"""Fields of which an object has at most one, by rules that are in no schema."""
_LEFT_OUT = {"targetRef": {"namespace"}, "targetRefs": {"namespace"}}
"""By the name of an object, fields that no value fits."""
_DEEPEST = 9
_FILLED = 0.3
"""How often a field that may be left out is filled in. Deeper fields are so less often."""


class Generator:
    """Makes the same objects for the same seed.

    :param schemas: the schema of ``spec`` of each kind, by ``apiVersion/Kind``.
    """

    def __init__(self, schemas: dict[str, Object], seed: int) -> None:
        self._schemas = schemas
        self._chance = random.Random(seed)  # noqa: S311  # the same again for the same seed

    def object(self, number: int) -> Object:
        """Return the next object; its name has the number."""
        what = self._chance.choice(sorted(self._schemas))
        api_version, _slash, kind = what.rpartition("/")
        return {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": f"fuzz-{number}", "namespace": self._chance.choice(NAMESPACES)},
            "spec": self._value(self._schemas[what], "spec", 0),
        }

    def _value(self, schema: Object, name: str, depth: int) -> Any:
        if "enum" in schema:
            return self._chance.choice(schema["enum"])
        if schema.get("x-kubernetes-int-or-string"):
            return self._chance.choice(_WORDS.get(name, (1, "50%")))
        match schema.get("type", "object"):
            case "object":
                return self._object(schema, name, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return self._string(name)
            case _:
                return self._number(schema, name)

    def _object(self, schema: Object, name: str, depth: int) -> Object:
        if name in ("labels", "matchLabels", "selector") and "properties" not in schema:
            return dict(self._chance.choice(_LABELS))
        if more := schema.get("additionalProperties"):
            key = self._chance.choice(["3000", "15443"] if name == "portLevelMtls" else ["app", "a"])
            return {key: self._value(more, name, depth + 1)} if isinstance(more, dict) else {}
        properties: dict[str, Object] = schema.get("properties") or {}
        filled = [key for key in properties if self._is_filled(key, schema, depth)]
        filled = [key for key in filled if key not in _LEFT_OUT.get(name, ())]
        for exclusive in (*_choices(schema), *_EXCLUSIVE):
            present = [key for key in exclusive if key in filled]
            kept = self._chance.choice(present) if present else None
            filled = [key for key in filled if key not in exclusive or key == kept]
        if "portLevelMtls" in filled and "selector" not in filled:
            filled.append("selector")
        return {key: self._value(properties[key], key, depth + 1) for key in filled}

    def _is_filled(self, key: str, schema: Object, depth: int) -> bool:
        if key in (schema.get("required") or []) or key == "matchLabels":
            return True
        likely = 0.8 if key in _WORDS or depth == 0 else _FILLED
        return depth < _DEEPEST and self._chance.random() < likely

    def _array(self, schema: Object, name: str, depth: int) -> list[Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", 2)
        count = max(least, min(most, self._chance.choice((1, 1, 1, 2))))
        items = [self._value(schema["items"], name, depth + 1) for _ in range(count)]
        if name == "ports":
            return items[:1]  # their names and numbers must differ
        return [item for place, item in enumerate(items) if item not in items[:place]]

    def _string(self, name: str) -> str:
        words = [word for word in _WORDS.get(name, ()) if isinstance(word, str)]
        if words:
            return str(self._chance.choice(words))
        if name.lower().endswith(
            ("timeout", "interval", "time", "delay", "ttl", "duration", "secs", "backoff")
        ):
            return self._chance.choice(("1s", "5s", "0.5s"))
        return self._chance.choice(("v1", "a", "10.1.2.3", "x-header"))

    def _number(self, schema: Object, name: str) -> Any:
        if schema.get("type") == "boolean":
            return self._chance.random() < 0.5
        words = [word for word in _WORDS.get(name, ()) if isinstance(word, int)]
        if words:
            return self._chance.choice(words)
        least, most = schema.get("minimum", 0), schema.get("maximum", 100)
        number = self._chance.randint(int(least), int(min(most, max(least, 100))))
        return float(number) if schema.get("type") == "number" else number


def _choices(schema: Object) -> list[set[str]]:
    """Return groups of fields of which an object has at most one."""
    parts = [schema, *(schema.get("allOf") or []), *(schema.get("anyOf") or [])]
    alternatives = [part["oneOf"] for part in parts if part.get("oneOf")]
    return [
        {key for alternative in group for key in alternative.get("required") or []} for group in alternatives
    ]


def schemas_of(definitions: list[Object], groups: tuple[str, ...]) -> dict[str, Object]:
    """Return the schemas of ``spec`` in CustomResourceDefinitions, without what only people read."""
    found = {}
    for definition in definitions:
        spec = definition["spec"]
        if spec["group"] not in groups:
            continue
        served = [version for version in spec["versions"] if version["served"]]
        newest = next((version for version in served if version["name"] == "v1"), served[-1])
        schema = newest["schema"]["openAPIV3Schema"]["properties"]["spec"]
        found[f"{spec['group']}/{newest['name']}/{spec['names']['kind']}"] = _bare(schema)
    return found


def _bare(schema: Any) -> Any:
    """Return a schema without descriptions and rules in CEL. A property may have such a name, too."""
    if isinstance(schema, list):
        return [_bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _bare(value)
        for key, value in schema.items()
        if not (key == "description" and isinstance(value, str)) and key != "x-kubernetes-validations"
    }
