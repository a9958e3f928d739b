"""What the lab says when it cannot go on: one line, with the cause and what to do."""

from __future__ import annotations


class LabError(Exception):
    """A condition that a person has to change. The text is shown as it is, without a traceback."""
