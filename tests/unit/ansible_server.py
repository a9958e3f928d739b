# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that has read once what every start of ansible-playbook reads, and forks for each run.

A start costs more work than most plays: most of it is to import libraries, to compile the collection, which
Ansible does anew each time, and to parse two files of ansible-core that never change. That is done here, but
nothing that depends on settings, environment or folder: the process of each run reads those itself, as
ansible.constants is imported there. See :mod:`ansible_runs`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

PRELOADED = (
    # As ansible.cli does it first.
    "ansible._internal",
    "ansible.config.manager",
    "ansible.utils.collection_loader",
    *("concurrent.futures", "cryptography.x509", "cryptography.hazmat.primitives.serialization", "curses"),
    *("cryptography.hazmat.primitives.hmac", "cryptography.hazmat.primitives.kdf.pbkdf2", "ctypes.util"),
    *("cryptography.hazmat.backends.openssl.backend", "distro", "packaging.specifiers", "platform", "shlex"),
    *("concurrent.futures.thread", "syslog", "tarfile", "tty", "uuid", "xml.etree.ElementTree"),
    *("getpass", "importlib.metadata", "importlib.resources", "jinja2.nativetypes", "jinja2.sandbox"),
    *("multiprocessing.managers", "multiprocessing.queues", "packaging.version", "unittest.mock", "urllib3"),
    *("urllib.request", "yaml", "zipfile"),
    # As the collection does it, and then a run's first task of it.
    *("kubernetes.client.api_client", "kubernetes.client.rest", "kubernetes.config", "kubernetes.dynamic"),
    *("kubernetes.stream", "requests", "websocket"),
    # As ansible-core does it with its first play and its first task.
    *("ansible._internal._encryption", "ansible._internal._plugins", "ansible._internal._powershell._script"),
    *(
        "ansible._internal._rpc_host",
        "ansible._internal._ssh._ssh_agent",
        "ansible._internal._templating._errors",
    ),
    *("ansible._internal._yaml", "ansible.context", "ansible.module_utils._internal._ansiballz._extensions"),
    *("ansible.module_utils._internal._concurrent._futures", "ansible.module_utils.common.file"),
    *("ansible.module_utils.common.sys_info", "ansible.module_utils.json_utils", "ansible.parsing.splitter"),
    *("ansible.parsing.utils.addresses", "ansible.utils.context_objects", "ansible.vars.hostvars"),
)


def main(connection: socket.socket) -> None:
    """Run what is asked for, one after the other, until nobody can ask any more."""
    prepare()
    while True:
        _content, descriptors, _flags, _address = socket.recv_fds(connection, 1, 3)
        if not descriptors:
            return
        process = os.fork()
        if process == 0:
            connection.close()
            run(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _process, status = os.waitpid(process, 0)
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(2, signed=True))


def prepare() -> None:
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # another release of Ansible has others
            importlib.import_module(name)
    from ansible.config.manager import ConfigManager
    from ansible.utils.collection_loader import _collection_finder

    # ansible-core lets this one be replaced "to cache the output".
    _collection_finder._meta_yml_to_dict = parsed_once(_collection_finder._meta_yml_to_dict)
    core = os.path.dirname(importlib.import_module("ansible.config").__file__ or "")
    with open(f"{core}/ansible_builtin_runtime.yml", "rb") as file:
        _collection_finder._meta_yml_to_dict(file.read(), None)
    definitions = f"{core}/base.yml"
    usual = ConfigManager._read_config_yaml_file
    read = usual(None, definitions)
    ConfigManager._read_config_yaml_file = lambda self, path: (
        read if os.path.realpath(path) == os.path.realpath(definitions) else usual(self, path)
    )
    _collection_finder.compile = compiled_once()
    if "ansible.constants" in sys.modules:
        raise RuntimeError("the settings of Ansible were read before there was a run")
    # A run is short, and its memory goes with it.
    gc.freeze()
    gc.disable()


def parsed_once(parse: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with what came of each text kept. Each run has a copy of it, as it has all memory."""
    known: dict[Any, Any] = {}

    def parsed(text: Any, origin: Any) -> Any:
        if text not in known:
            known[text] = parse(text, origin)
        return known[text]

    return parsed


def compiled_once() -> Callable[..., CodeType]:
    """In place of `compile`, which Ansible calls for each file of a collection: with the code of ours."""
    known: dict[tuple[bytes, str], CodeType] = {}
    folders = (Path(folder) / "ansible_collections/exomesh/istio/plugins" for folder in sys.path)
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        code = SourceFileLoader("ours", str(path)).get_code("ours")  # what Python itself has kept of it
        if code:
            known[path.read_bytes(), str(path)] = code
    return lambda source, filename, **rest: (
        known.get((source, filename)) or compile(source=source, filename=filename, **rest)
    )


def run(wanted: int, output: int, errors: int) -> None:
    """Be the program that is asked for; ends this process."""
    code = 1
    try:
        with open(wanted) as file:
            asked = json.load(file)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (errors, 2)):
            os.dup2(source, target)
            os.close(source)
        os.environ.clear()
        os.environ.update(asked["environment"])
        if not os.environ.keys() & {"LC_ALL", "LC_CTYPE", "LANG"}:
            os.environ["LC_CTYPE"] = "C.UTF-8"  # as Python has it where there is no locale
        os.chdir(asked["folder"])
        tempfile.tempdir = None  # as the environment says
        sys.argv = asked["arguments"]
        name = os.path.basename(sys.argv[0]).removeprefix("ansible-")
        code = importlib.import_module(f"ansible.cli.{name}").main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - as at the end of any process
        traceback.print_exc()
    finally:
        end(code or 0)


def end(code: int) -> None:
    """End as the interpreter does, but for the memory, which goes with the process."""
    import atexit
    import threading

    with contextlib.suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
