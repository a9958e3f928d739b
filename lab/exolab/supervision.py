"""Daemons under supervisord: one for the lab, and one as first process of each node."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from exolab.command import run


@dataclasses.dataclass(frozen=True)
class Program:
    """A daemon: restarted when it ends, its output in a log of its own."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stop_signal: str = "TERM"


def write_config(path: Path, socket: Path, logs: Path, programs: Iterable[Program]) -> None:
    """Write a supervisord configuration whose control socket and logs only root reads."""
    sections = [
        f"""[supervisord]
logfile={logs}/supervisord.log
logfile_maxbytes=1MB
logfile_backups=1
pidfile={socket.parent}/supervisord.pid
loglevel=info
umask=022

[unix_http_server]
file={socket}
chmod=0600

[supervisorctl]
serverurl=unix://{socket}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    ]
    for program in programs:
        # supervisord expands %(...)s itself, so a plain per cent sign is doubled.
        command = " ".join(program.command).replace("%", "%%")
        environment = ",".join(f'{key}="{value}"' for key, value in program.environment.items()).replace(
            "%", "%%"
        )
        sections.append(
            f"""[program:{program.name}]
command={command}
environment={environment}
autorestart=true
startsecs=2
startretries=1000000
stopsignal={program.stop_signal}
stopasgroup={"true" if program.stop_signal == "TERM" else "false"}
killasgroup=true
redirect_stderr=true
stdout_logfile={logs}/{program.name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=1
"""
        )
    temporary = path.with_name(path.name + ".new")
    temporary.write_text("\n".join(sections))
    temporary.replace(path)


def states(config: Path) -> dict[str, str]:
    """State of each program ("RUNNING", "STARTING", "BACKOFF", ...).

    Empty when the supervisor does not answer.
    """
    output = _control(config, "status", check=False).stdout
    lines = [line.split() for line in output.splitlines()]
    known = {"RUNNING", "STARTING", "BACKOFF", "STOPPED", "STOPPING", "EXITED", "FATAL", "UNKNOWN"}
    return {fields[0]: fields[1] for fields in lines if len(fields) > 1 and fields[1] in known}


def update(config: Path) -> None:
    """Start what is new in the configuration, restart what changed, stop what is gone."""
    _control(config, "update")


def _control(config: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(Path(sys.executable).parent / "supervisorctl", "--configuration", config, *words, check=check)
