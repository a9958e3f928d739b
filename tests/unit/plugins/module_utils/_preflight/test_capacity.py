"""What pods request, in the words of Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._preflight.capacity import (
    quantity,
    request_of,
)

Object = dict[str, Any]


@pytest.mark.parametrize(
    ("text", "value"), [("500m", "0.5"), ("2", "2"), ("1.5Gi", str(3 * 2**29)), ("128974848", "128974848")]
)
def test_quantities(text: str, value: str) -> None:
    assert quantity(text) == pytest.approx(type(quantity("1"))(value))


def test_a_quantity_that_is_none_is_refused() -> None:
    with pytest.raises(ExomeshError, match="not a quantity"):
        quantity("2 GB")


def test_a_pods_request_counts_sidecars_and_init_containers() -> None:
    def container(cpu: str, **more: str) -> Object:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    containers = [container("200m"), container("100m")]
    init = [container("100m", restartPolicy="Always"), container("700m")]
    assert request_of({"spec": {"containers": containers}}).cpu == quantity("300m")
    assert request_of({"spec": {"containers": containers, "initContainers": init}}).cpu == quantity("800m")
