# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running istioctl, and reading the objects that it renders (private to the collection)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from .._base.documents import yaml_loader
from .._base.errors import ExomeshError, MissingRequirementError
from .._base.files import FileError, locked, read_text, real_path, write_private
from .._base.programs import run_program
from .._kubernetes.api import Object
from .istioctl import istioctl_environment

with suppress(ImportError):  # require("kubernetes") reports it
    import yaml


class AnswerCache:
    """The last answer to each kind of question, in one file. A question is asked again if no answer is kept.

    :param path: the file; None to keep nothing.
    :param writable: whether new answers are kept, too.
    """

    def __init__(self, path: str | None = None, writable: bool = True) -> None:
        self._path = real_path(path) if path else None
        self._writable = writable

    def answer(self, kind: str, question: Any, ask: Callable[[], Any]) -> Any:
        """Return the kept answer to the same question, or else the answer of ``ask``."""
        key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
        kept = self._kept().get(kind)
        if isinstance(kept, dict) and kept.get("question") == key and "answer" in kept:
            return kept["answer"]
        answer = ask()
        if self._path and self._writable:
            with suppress(FileError, OSError), locked(self._path):
                everything = {**self._kept(), kind: {"question": key, "answer": answer}}
                write_private(self._path, json.dumps(everything))
        return answer

    def _kept(self) -> dict[str, Any]:
        with suppress(FileError, ValueError):
            kept = json.loads((read_text(self._path) if self._path else None) or "{}")
            return kept if isinstance(kept, dict) else {}
        return {}


class Istioctl:
    """One ``istioctl`` program that connects to one cluster with one named kubeconfig.

    :param cache: cache for the answers of the program.
    :raises MissingRequirementError: the program does not exist, or cannot be run.
    """

    def __init__(
        self, path: str, kubeconfig: str, context: str | None = None, cache: AnswerCache | None = None
    ) -> None:
        if not os.access(path, os.X_OK):
            raise MissingRequirementError(
                f"istioctl is not at {path}, or cannot be run",
                next_step="Let role istioctl fetch it, or set istioctl_binary to an existing one",
            )
        self._path = path
        self._cache = cache or AnswerCache()
        program = os.stat(path)
        self._program = [program.st_size, program.st_mtime_ns]
        self._cluster_arguments = ["--kubeconfig", kubeconfig] + (["--context", context] if context else [])

    def version(self) -> str:
        """Return the version of istioctl itself, as in ``1.31.1``."""

        def ask() -> str:
            answer = self._run(["version", "--remote=false", "--output", "json"], None, 30)
            return str(json.loads(answer)["clientVersion"]["version"])

        return str(self._cache.answer("version", self._program, ask))

    def render(self, operator: Object, kubernetes: str) -> list[Object]:
        """Return the objects of an installation of ``operator`` in this cluster.

        :param kubernetes: the cluster's version. The rendering depends on nothing else of the cluster.
        """

        def ask() -> list[Object]:
            arguments = ["manifest", "generate", "--cluster-specific", *self._cluster_arguments]
            return _objects_in(self._run([*arguments, "--filename", "-"], operator, 120))

        if "installPackagePath" in operator["spec"]:  # the user's own charts may change
            return ask()
        return list(self._cache.answer("manifest", [*self._program, kubernetes, operator], ask))

    def tag(self, tag: str, revision: str, injectors: Sequence[Object]) -> list[Object]:
        """Return the objects of a revision tag.

        :param injectors: the revision's webhooks in the cluster. The objects are made from them.
        """

        def ask() -> list[Object]:
            arguments = ["tag", "generate", tag, "--revision", revision, "--overwrite", "--skip-confirmation"]
            return _objects_in(self._run([*arguments, *self._cluster_arguments], None, 60))

        made_of = [[obj["metadata"]["name"], obj["metadata"]["labels"], obj["webhooks"]] for obj in injectors]
        return list(self._cache.answer("tag", [*self._program, tag, revision, made_of], ask))

    def install(self, operator: Object, timeout: int, go_on: Callable[[], None] = lambda: None) -> None:
        """Install and wait until ready, or fail after ``timeout`` seconds.

        :param go_on: is called every second, and raises an error to stop the installation.
        """
        arguments = ["install", "--skip-confirmation", "--readiness-timeout", f"{timeout}s"]
        self._run([*arguments, *self._cluster_arguments, "--filename", "-"], operator, timeout + 120, go_on)

    def _run(
        self,
        arguments: list[str],
        operator: Object | None,
        timeout: int,
        go_on: Callable[[], None] = lambda: None,
    ) -> str:
        try:
            ended = run_program(
                [self._path, *arguments],
                istioctl_environment(),
                timeout,
                # JSON, not YAML: in YAML, only Go reads a name like "n" as a truth value.
                "" if operator is None else json.dumps(operator),
                os.getcwd(),  # relative paths in the operator start here
                go_on,
            )
        except TimeoutError:
            raise ExomeshError(
                f"istioctl {arguments[0]} did not end in time, and was ended",
                "istioctl_timeout",
                cause="The API of the cluster is slow or silent, or what it installs does not become ready",
                next_step="Check that the cluster's API answers, then run it again",
            ) from None
        except OSError as error:
            raise MissingRequirementError(
                f"istioctl at {self._path} cannot be run: {error.strerror}",
                next_step="Use the release for this operating system and processor",
            ) from None
        if ended.code != 0:
            # Leave out istioctl's banner and its progress marks, which say nothing about the failure.
            output = f"{ended.output}\n{ended.errors}".splitlines()
            lines = [line.strip() for line in output if re.search("[a-z]{3}", line)]
            raise ExomeshError(
                f"istioctl {arguments[0]} failed",
                "istioctl_failed",
                cause=" ".join([line for line in lines if line.startswith("Error")] or lines[-5:]),
                details={"exit_code": ended.code, "output": lines[-40:]},
            )
        return ended.output


def _objects_in(answer: str) -> list[Object]:
    # Warnings about deprecated settings come first, on the same stream.
    start = answer.find("apiVersion:")
    documents = yaml.load_all(answer[start:], Loader=yaml_loader()) if start >= 0 else []
    return [document for document in documents if document]
