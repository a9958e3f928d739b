"""What a run leaves on the machine: files, processes, and what others could read of it while it lasted."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exolab.command import descendants

# A key as PEM, and as base64 of that; a token of Kubernetes.
SECRETS = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY"
    rb"|LS0tLS1CRUdJTi(?:[A-Za-z0-9+/]{2,12})?(?:BSSVZBVEUgS0VZ|QUklWQVRFIEtFW|UFJJVkFURSBLRV)"
    rb"|eyJhbGciOi[\w-]{10,}\.[\w-]{20,}\."
)
INTERVAL = 0.2


@dataclass
class Traces:
    """A run's own folders, and what was seen of its processes.

    :param secrets: further texts that nobody may see.
    """

    folder: Path
    secrets: tuple[bytes, ...] = ()
    seen: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    """Arguments and environment of every process of the run."""

    @property
    def environment(self) -> dict[str, str]:
        return {"TMPDIR": str(self.folder / "tmp"), "HOME": str(self.folder / "home")}

    def shows(self, content: bytes) -> bool:
        return bool(SECRETS.search(content)) or any(secret in content for secret in self.secrets)

    def files(self) -> list[Path]:
        """Files outside the state folder that hold a secret."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
        return [path for path in files if self.shows(path.read_bytes())]

    def processes(self) -> list[str]:
        """Processes whose arguments or environment held a secret; exo gets its API key by its environment."""
        return [
            arguments.replace(b"\0", b" ").decode(errors="replace")[:200]
            for arguments, environment in self.seen.values()
            if self.shows(arguments) or SECRETS.search(environment)
        ]

    def check(self) -> None:
        assert not self.files(), "a secret is in a file outside the state folder"
        assert not self.processes(), "a secret is in the arguments or in the environment of a process"
        assert self.seen, "no process of the run was looked at, so nothing is known of them"

    @contextmanager
    def watching(self, pid: int) -> Iterator[None]:
        """Look at the processes that one starts, for as long as the block lasts."""
        stop = threading.Event()

        def watch() -> None:
            while True:
                for process in {pid, *descendants(pid)}:
                    if process not in self.seen:
                        self._look(process)
                if stop.wait(INTERVAL):
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _look(self, process: int) -> None:
        try:
            arguments = Path(f"/proc/{process}/cmdline").read_bytes()
            self.seen[process] = arguments, Path(f"/proc/{process}/environ").read_bytes()
        except OSError:
            pass  # it is gone


@contextmanager
def traces(*secrets: str) -> Iterator[Traces]:
    """Folders for temporary files and for HOME that are looked through at the end."""
    with tempfile.TemporaryDirectory(prefix="exomesh-traces-") as folder:
        found = Traces(Path(folder), tuple(secret.encode() for secret in secrets if secret))
        for path in found.environment.values():
            Path(path).mkdir(mode=0o700)
        yield found
        found.check()


def is_running(pid: int) -> bool:
    """Whether a process runs, and is not only waiting to be counted as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
