# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root that takes the place of the present one in the mesh's state (private to the collection).

It waits in ``ca/next`` until the whole mesh has it. Then it moves to ``ca``, and the former one to a folder
that is named by its fingerprint.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .._base.certificates import fingerprint
from .._base.files import have_state_folder, locked, make_private_directory, read_text, write_private
from .encrypted_key import require_strong
from .root_ca import RootOutcome, RootProfile, judge_root, make_root, no_passphrase, require_key
from .x509 import Authority, CertificateError, chain_pem, key_pem, read_chain

if TYPE_CHECKING:
    from cryptography import x509

_KEY, _CERTIFICATE = "root-key.pem", "root-cert.pem"


class NextRoot:
    """The next root in files.

    :param state_dir: folder of the mesh's state.
    :param passphrase: passphrase of its key; None to keep the key unencrypted.
    """

    def __init__(self, state_dir: Path, passphrase: str | None) -> None:
        self._state_dir = state_dir
        self._passphrase = passphrase
        self._present = state_dir / "ca"
        self._next = self._present / "next"
        self.key_path = self._next / _KEY

    def read(self) -> tuple[x509.Certificate, ...]:
        """Return the next root's chain; empty if there is no next root."""
        return _read(self._next / _CERTIFICATE)

    def read_present(self) -> tuple[x509.Certificate, ...]:
        return _read(self._present / _CERTIFICATE)

    def was_left(self, name: str) -> bool:
        """Return whether the mesh has left a root whose fingerprint begins so."""
        wanted = plain(name)
        found = self._present.glob("former-*")
        return any(path.name.removeprefix("former-").startswith(wanted[:_NAMED]) for path in found)

    def ensure(self, profile: RootProfile, given: Authority | None, check_mode: bool) -> RootOutcome:
        """Ensure that there is a next root: the given one, or a new one.

        :raises CertificateError: ``next_root_differs``: another one waits there already.
        """
        have_state_folder(self._state_dir, check_mode)
        outcome = RootOutcome(self.read())
        if outcome.chain:
            if given and given.chain != outcome.chain:
                raise CertificateError(
                    f"Another new root waits in {self._next}, with SHA-256 {fingerprint(outcome.chain[-1])}. "
                    "Nothing was changed",
                    "next_root_differs",
                    next_step=f"Leave out the root that you give; or, if no rotation is under way, delete "
                    f"{self._next}",
                )
            return outcome
        if self._passphrase and not (given or self.key_path.exists()):
            require_strong(self._passphrase, str(self.key_path))
        outcome.changes.append(f"next root CA {self._next}")
        if not self._passphrase:
            outcome.warnings.append(no_passphrase(self.key_path))
        if given:
            judge_root(given.chain, "The new root given")
            require_key(given, "the key of the new root")
            outcome.chain = given.chain
        if check_mode:
            return outcome
        make_private_directory(self._next)
        if given:
            write_private(self.key_path, key_pem(given.key, self._passphrase))
            write_private(self._next / _CERTIFICATE, chain_pem(given.chain))
        else:
            outcome.chain = (make_root(self._next, self._passphrase, profile),)
        return outcome

    def adopt(self) -> None:
        """Make the next root the present one. Nothing is lost, wherever this is interrupted."""
        if not self.read():
            return
        with locked(self._present / _CERTIFICATE):
            kept = self._set_aside(self._present, "former")
            if kept and not (self._next / _KEY).exists() and _same(kept / _KEY, self._present / _KEY):
                (self._present / _KEY).unlink()  # the new root's key is kept elsewhere
            # The certificate goes last, because it is what tells that there is still something to do.
            for name in (_KEY, _CERTIFICATE):
                if (self._next / name).exists():
                    os.replace(self._next / name, self._present / name)
            _remove_empty(self._next)

    def abandon(self) -> None:
        """Set the next root aside, after a return to the present one."""
        if not self.read():
            return
        self._set_aside(self._next, "unused")
        for name in (_KEY, _CERTIFICATE):
            (self._next / name).unlink(missing_ok=True)
        _remove_empty(self._next)

    def _set_aside(self, folder: Path, why: str) -> Path | None:
        """Copy a root into the folder of its own, and return that. What is there already stays as it is."""
        chain = _read(folder / _CERTIFICATE)
        if not chain:
            return None
        kept = self._present / f"{why}-{plain(fingerprint(chain[-1]))[:_NAMED]}"
        if (kept / _CERTIFICATE).exists():
            return kept
        make_private_directory(kept)
        # The key may be kept elsewhere, or may be lost.
        for name in (_KEY, _CERTIFICATE):
            if (text := read_text(folder / name)) is not None and not (kept / name).exists():
                write_private(kept / name, text)
        return kept


_NAMED = 16
"""Characters of a fingerprint in the name of a folder."""


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # somebody keeps something else there
        folder.rmdir()


def plain(name: str) -> str:
    """Return a fingerprint, or the beginning of one, as all are compared."""
    return name.replace(":", "").strip().lower()


def _same(first: Path, second: Path) -> bool:
    text = read_text(first)
    return text is not None and text == read_text(second)


def _read(path: Path) -> tuple[x509.Certificate, ...]:
    text = read_text(path)
    return read_chain(text, str(path)) if text else ()
