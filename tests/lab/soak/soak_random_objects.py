"""Whatever users apply: status and diagnose neither crash nor contradict what real requests find."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import wait_until_met
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ApiError, ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._verify.verification import Verification
from ansible_collections.exomesh.istio.plugins.modules.mesh_diagnose import STOP, look, walk
from random_objects import Generator, Object, schemas_of

from ..copies import up_mesh
from ..runs import RunningLab
from .figures import FOLDER, figures, repetitions

NAMES = ("cluster1", "cluster2")
GROUPS = ("networking.istio.io", "security.istio.io")
SERVICE = "exo-webtest.exodemo:3000"
REQUESTS = 5
SETTLES = 2.0
"""Seconds within which proxies have a change, mostly."""
LOOKS = 3
AGREED = 0.95
REFUSED = "refused"


@dataclass
class Mesh:
    """A mesh with the demo: its caller is in the first cluster, its server in the second."""

    lab: RunningLab
    clients: dict[str, KubernetesClient] = field(init=False)
    members: list[Member] = field(init=False)
    caller: str = field(init=False)

    def __post_init__(self) -> None:
        configs = {name: str(self.lab.path / "mesh" / name / "kubeconfig") for name in NAMES}
        self.clients = {name: KubernetesClient(config, name=name) for name, config in configs.items()}
        self.members = [
            Member(name, f"network-{name}", configs[name], None, tuple(n for n in NAMES if n != name))
            for name in NAMES
        ]
        pods = self.clients[NAMES[0]].list_objects("v1", "Pod", "exodemo", labels="app=curl")
        self.caller = pods[0]["metadata"]["name"]

    def schemas(self) -> dict[str, Object]:
        """The schemas of the kinds, as the cluster's own definitions have them."""
        kind = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        return schemas_of(self.clients[NAMES[0]].list_objects(*kind), GROUPS)

    def answered(self) -> int:
        """How many of some requests the server answered well."""
        one = "curl -s -o /dev/null -m 5 -w '%{http_code} ' exo-webtest:3000"
        script = "; ".join([one] * REQUESTS)
        command = ["sh", "-c", script]
        done = self.clients[NAMES[0]].exec("exodemo", self.caller, "curl", command, 60)
        return done.stdout.split().count("200")

    def diagnosed(self) -> str:
        """Where the way stops; empty if it does not."""
        try:
            steps = walk(look(self.members, NAMES[0], SERVICE, NAMES[1], f"exodemo/{self.caller}"))
        except ExomeshError as error:
            return error.code or str(error)
        return next((f"{step.name}: {step.told}" for step in steps if step.state == STOP), "")

    def errors(self) -> list[str]:
        """What status says is broken."""
        _seen, verdict = Verification(self.members, None, 2).look()
        return [finding.kind.code for finding in verdict.findings if finding.is_error]

    @contextmanager
    def applied(self, cluster: str, obj: Object) -> Iterator[None]:
        """An object while the block runs; afterwards all requests are answered again."""
        client = self.clients[cluster]
        client.create(obj)
        try:
            time.sleep(SETTLES)
            yield
        finally:
            client.delete(ObjectRef.of(obj))
            left = wait_until_met(lambda: None if self.answered() == REQUESTS else "not answered", 60, 0.5)
            assert left is None, obj


def disagreement(mesh: Mesh) -> str:
    """Return how diagnose or status contradict real requests, after some looks; empty if they agree."""
    told = ""
    for _look in range(LOOKS):
        answered, stopped, errors = mesh.answered(), mesh.diagnosed(), mesh.errors()
        wrong = []
        if stopped and answered == REQUESTS:
            wrong.append(f"diagnose stops at {stopped}")
        if not stopped and answered == 0:
            wrong.append("diagnose finds every step well")
        if errors and answered == REQUESTS:
            wrong.append(f"status finds {', '.join(errors)}")
        told = f"{'; '.join(wrong)}: {answered} of {REQUESTS} requests answered" if wrong else ""
        if not told:
            return ""
        time.sleep(SETTLES)
    return told


def tried(mesh: Mesh, generator: Generator, count: int) -> tuple[Counter[str], list[str]]:
    """Apply so many objects, one after the other; return their kinds, and the disagreements."""
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    number = 0
    while seen.total() - seen[REFUSED] < count:
        obj, cluster = generator.object(number), NAMES[number % len(NAMES)]
        number += 1
        try:
            with mesh.applied(cluster, obj):
                told = disagreement(mesh)
        except ApiError as error:
            # istiod's webhook refuses what is of the right form, but says nothing that it understands.
            if error.status not in (400, 422):
                raise
            seen[REFUSED] += 1
            continue
        seen[obj["kind"]] += 1
        if told:
            wrong.append(f"{told}; {cluster}: {json.dumps(obj)}")
            print(wrong[-1], flush=True)
    return seen, wrong


def test_no_object_of_users_makes_status_or_diagnose_crash_or_wrong(lab: RunningLab) -> None:
    up_mesh(lab, len(NAMES))
    mesh = Mesh(lab)
    count = repetitions(200)
    with figures("random objects", "an object of a random kind applied", "test_random_objects") as found:
        seen, wrong = tried(mesh, Generator(mesh.schemas(), count), count)
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "random-objects.txt").write_text("\n".join(wrong))
        found |= {"objects": count, "refused by istiod": seen[REFUSED], "disagreements": len(wrong)}
        assert len(wrong) <= (1 - AGREED) * count, "\n".join(wrong)
    lab.down()
