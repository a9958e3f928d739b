# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run final steps, also after a failure (private to the collection)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import ExomeshError
from .waiting import cleaning_up, concurrently


@contextmanager
def afterwards(*steps: Callable[[], object]) -> Iterator[None]:
    """Run all steps at the end of the block, concurrently. One that fails or hangs does not stop the others.

    :raises ExomeshError: the failure of a step. If the block itself failed, its own error is raised, and the
        failures of steps are added to that error's next step.
    """
    try:
        yield
    except ExomeshError as error:
        told = [error.next_step, *(str(failure) for failure in _taken(steps))]
        error.next_step = " ".join(f"{text.rstrip('. ')}." for text in told if text) or None
        raise
    except BaseException as error:
        for failure in _taken(steps):
            error.add_note(str(failure))
        raise
    failures = _taken(steps)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExomeshError(
            " ".join(map(str, failures)),
            failures[0].code,
            details={"failures": [failure.failure() for failure in failures]},
        )


def _taken(steps: tuple[Callable[[], object], ...]) -> list[ExomeshError]:
    def take(step: Callable[[], object]) -> ExomeshError | None:
        try:
            step()
        except ExomeshError as error:
            return error
        return None

    with cleaning_up():
        return [failure for failure in concurrently(take, steps) if failure]
