"""Faults of the lab's Exoscale API: what a real one, or the network before it, may answer on a bad day.

python -m exolab.faults --state DIR set 403 --zone at-vie-2 --operation list-sks-clusters --times 1
python -m exolab.faults --state DIR list
python -m exolab.faults --state DIR clear
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from exolab.cloud_state import ZONES, write_private

FAULTS_FILE = "faults.json"

#: What each kind of fault does to a request.
KINDS = {
    "400": "answers 400 with an RFC 9457 body",
    "401": "answers 401",
    "403": "answers 403, as a role policy that forbids the operation",
    "404": "answers 404",
    "409": "answers 409",
    "429": "answers 429",
    "500": "answers 500",
    "502": "answers 502",
    "503": "answers 503",
    "html": "answers 200 with an HTML page, as a captive portal",
    "hang": "accepts the request and never answers",
    "zone-down": "closes the connection without an answer",
    "garbage": "puts text before the YAML of a kubeconfig, as exo 1.85.0 printed it",
}

LIST_ZONES = "list-zones"
GENERATE_KUBECONFIG = "generate-sks-cluster-kubeconfig"
OPERATIONS = (
    LIST_ZONES,
    "list-sks-clusters",
    "get-sks-cluster",
    "list-sks-cluster-versions",
    GENERATE_KUBECONFIG,
    "get-sks-cluster-authority-cert",
)

#: Answers to a caller or a particular request: without an operation they leave `list-zones` alone,
#: which the real API answers to everybody.
_NOT_FOR_LIST_ZONES = frozenset({"400", "401", "403", "404", "409"})


@dataclass(frozen=True)
class Fault:
    """A kind of KINDS. zone, operation: None is every one. times: requests that it still hits, None: all."""

    kind: str
    zone: str | None = None
    operation: str | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(KINDS)}")
        if self.zone is not None and self.zone not in ZONES:
            raise ValueError(f"unknown zone {self.zone!r}; known: {', '.join(ZONES)}")
        if self.operation is not None and self.operation not in OPERATIONS:
            raise ValueError(f"unknown operation {self.operation!r}; known: {', '.join(OPERATIONS)}")
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1")

    def hits(self, zone: str, operation: str | None) -> bool:
        """Whether a request for this operation in this zone meets the fault."""
        if self.zone not in (None, zone):
            return False
        if self.kind == "garbage":
            return operation == GENERATE_KUBECONFIG
        if self.operation is not None:
            return operation == self.operation
        return not (operation == LIST_ZONES and self.kind in _NOT_FOR_LIST_ZONES)


class Faults:
    """The faults in a state directory, shared by processes through `faults.json` and a lock beside it."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FAULTS_FILE

    def set(
        self, kind: str, zone: str | None = None, operation: str | None = None, times: int | None = None
    ) -> None:
        """Add a fault; the first that fits a request hits it. Raises ValueError."""
        fault = Fault(kind, zone, operation, times)
        with self._lock():
            self._write([*self.active(), fault])

    def clear(self) -> None:
        """Heal everything."""
        with self._lock():
            self._write([])

    def active(self) -> list[Fault]:
        """The faults in the order in which they were set."""
        try:
            return [Fault(**entry) for entry in json.loads(self._path.read_text())["faults"]]
        except FileNotFoundError:
            return []

    def take(self, zone: str, operation: str | None) -> Fault | None:
        """The fault that hits this request, if any; counts its `times` down."""
        if not self._path.exists():
            return None
        with self._lock():
            faults = self.active()
            for index, fault in enumerate(faults):
                if not fault.hits(zone, operation):
                    continue
                if fault.times is not None:
                    left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    self._write([*faults[:index], *left, *faults[index + 1 :]])
                return fault
        return None

    def _write(self, faults: list[Fault]) -> None:
        write_private(
            self._path, json.dumps({"faults": [asdict(fault) for fault in faults]}, indent=2) + "\n"
        )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def main(argv: list[str] | None = None) -> int:
    """Command line; 0, or 2 for wrong arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m exolab.faults",
        description="Switch faults of the lab's Exoscale API on and off.",
        epilog="kinds:\n" + "\n".join(f"  {kind:10} {effect}" for kind, effect in KINDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="state directory of the API")
    commands = parser.add_subparsers(dest="command", required=True)
    set_command = commands.add_parser("set", help="add a fault")
    set_command.add_argument("kind", choices=KINDS, metavar="KIND")
    set_command.add_argument("--zone", choices=ZONES, metavar="ZONE", help="only in this zone")
    set_command.add_argument(
        "--operation", choices=OPERATIONS, metavar="OPERATION", help="only this operation"
    )
    set_command.add_argument("--times", type=int, metavar="N", help="only the next N requests that it fits")
    commands.add_parser("clear", help="remove every fault")
    commands.add_parser("list", help="one JSON object a line")
    arguments = parser.parse_args(argv)

    faults = Faults(arguments.state)
    if arguments.command == "set":
        try:
            faults.set(arguments.kind, arguments.zone, arguments.operation, arguments.times)
        except ValueError as error:
            parser.error(str(error))
    elif arguments.command == "clear":
        faults.clear()
    else:
        for fault in faults.active():
            print(json.dumps(asdict(fault)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
