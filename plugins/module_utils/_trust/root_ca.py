# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one root CA of a mesh: kept in files here, or given by the user (private to the collection)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from .._base.certificates import time_text
from .._base.errors import ExomeshError
from .._base.files import (
    have_state_folder,
    is_private,
    locked,
    make_private,
    read_text,
    real_path,
    write_private,
)
from .._base.members import Member
from .._base.waiting import concurrently
from .._istio.record import read_record
from .._kubernetes.client import KubernetesClient
from .cluster import ClusterTrust, read_trust, require_no_root, require_root
from .encrypted_key import ROUNDS, is_quick_to_guess, require_strong, weakness
from .renewal import why_renew
from .x509 import (
    MAX_LIFETIME,
    Authority,
    CertificateError,
    KeyKind,
    Profile,
    chain_pem,
    chain_problems,
    chain_weaknesses,
    complete_chain,
    is_root,
    key_belongs,
    key_is_encrypted,
    key_pem,
    new_key,
    new_root,
    read_chain,
    read_key,
)

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True)
class RootProfile:
    """The wanted properties of a new root.

    :raises CertificateError: ``lifetime_invalid``.
    """

    organization: str
    key: KeyKind
    lifetime: timedelta

    def __post_init__(self) -> None:
        if not timedelta(days=1) <= self.lifetime <= MAX_LIFETIME:
            raise CertificateError(
                f"A root CA cannot live for {self.lifetime.days} days. Nothing was changed",
                "lifetime_invalid",
                next_step=f"Set certificates_root_lifetime to 1 to {MAX_LIFETIME.days} days",
            )


@dataclass(frozen=True)
class Intermediates:
    """The wanted properties of the intermediate CAs that a root signs.

    :param renew: whether intermediate CAs are replaced although they are not due.
    :param signed_now: names of the clusters that get an intermediate CA in this run, if they need one.
    """

    organization: str
    key: KeyKind
    lifetime: timedelta
    renew_before: timedelta
    renew: bool = False
    signed_now: Sequence[str] = ()

    def are_needed(self, trusts: Sequence[ClusterTrust], issuers: Sequence[x509.Certificate]) -> bool:
        """Return whether the root has to sign in this run."""
        return any(self._is_needed(trust, issuers) for trust in trusts if trust.cluster in self.signed_now)

    def _is_needed(self, trust: ClusterTrust, issuers: Sequence[x509.Certificate]) -> bool:
        held = trust.cacerts
        if held is None or self.renew:
            return True
        profile = Profile(trust.cluster, self.organization, self.key, self.lifetime, self.renew_before)
        return why_renew(held.chain, held.key(), profile, issuers, datetime.now(UTC)) is not None


@dataclass
class RootOutcome:
    """The mesh's root, and what was done, or would be done in check mode.

    :param chain: the CA that signs intermediate CAs first, its root last; empty if there is no root yet.
    :param changes: the changes, in words.
    """

    chain: tuple[x509.Certificate, ...] = ()
    changes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class LocalRoot:
    """The root CA in files: ``ca/root-key.pem`` and ``ca/root-cert.pem`` of the mesh's state.

    :param state_dir: folder of that state.
    :param passphrase: passphrase of the key; None to keep the key unencrypted.
    :param new_mesh: ID of a mesh that the user declares to be new. Then the records of its members do not
        count.
    """

    def __init__(self, state_dir: Path, passphrase: str | None, new_mesh: str | None = None) -> None:
        self._state_dir = state_dir
        self._new_mesh = new_mesh
        self._passphrase = passphrase
        self.key_path = state_dir / "ca" / "root-key.pem"
        self.certificate_path = state_dir / "ca" / "root-cert.pem"

    def ensure(
        self,
        members: Sequence[Member],
        profile: RootProfile,
        intermediates: Intermediates,
        check_mode: bool,
    ) -> RootOutcome:
        """Ensure the root. It is created only if there is none, here or in any cluster, and never changed.

        :param intermediates: the CAs that the root signs. A root that ends before one of them would causes a
            warning.
        """
        outcome = RootOutcome()
        folder = have_state_folder(self._state_dir, check_mode)
        outcome.warnings += folder.warnings
        if check_mode:
            self._ensure(members, profile, intermediates, outcome, True)
        else:
            with locked(self.certificate_path):
                self._ensure(members, profile, intermediates, outcome, False)
        if outcome.chain:
            outcome.warnings += _short_root_warnings(outcome.chain, intermediates.lifetime)
        return outcome

    def _ensure(
        self,
        members: Sequence[Member],
        profile: RootProfile,
        intermediates: Intermediates,
        outcome: RootOutcome,
        check_mode: bool,
    ) -> None:
        text = read_text(self.certificate_path)
        if text is None:
            trusts = _read_all(members, None)
            require_no_root(trusts, str(self.certificate_path))
            _require_new_mesh(members, self._new_mesh, check_mode)
            if self._passphrase and not self.key_path.exists():
                require_strong(self._passphrase, str(self.key_path))
            outcome.changes.append(f"root CA {self.certificate_path}")
            if not check_mode:
                outcome.chain = (make_root(self.certificate_path.parent, self._passphrase, profile),)
            if not self._passphrase:
                outcome.warnings.append(no_passphrase(self.key_path))
            return
        outcome.chain = read_chain(text, str(self.certificate_path))
        judge_root(outcome.chain, str(self.certificate_path))
        trusts = _read_all(members, outcome)
        require_root(outcome.chain[-1], trusts)
        if not check_mode and intermediates.are_needed(trusts, outcome.chain):
            authority = load_authority(text, str(self.key_path), None, self._passphrase)
            require_key(authority, f"the key {self.key_path}")
        self._protect(outcome, check_mode)

    def _protect(self, outcome: RootOutcome, check_mode: bool) -> None:
        """Ensure that the key is private, and encrypted if there is a passphrase."""
        text = read_text(self.key_path)
        if text is None:
            return  # the key is kept elsewhere; only signing needs it
        if not is_private(self.key_path):
            outcome.changes.append(f"mode 0600 of {self.key_path}")
            if not check_mode:
                make_private(self.key_path)
        if not self._passphrase:
            return
        encrypted = key_is_encrypted(text)
        if not encrypted:
            require_strong(self._passphrase, str(self.key_path))
        elif reason := weakness(self._passphrase):
            outcome.warnings.append(
                f"The passphrase of the root key {self.key_path} is weak: {reason}. Choose another one: "
                f"openssl pkcs8 -topk8 -iter {ROUNDS} -in {self.key_path} -out new.pem, and put new.pem in "
                "its place"
            )
        if not encrypted or is_quick_to_guess(text):
            self._encrypt(text, encrypted, outcome, check_mode)

    def _encrypt(self, text: str, again: bool, outcome: RootOutcome, check_mode: bool) -> None:
        try:
            key = read_key(text, self._passphrase, str(self.key_path))
        except CertificateError as error:
            # As long as nothing is to be signed, the mesh needs no key.
            outcome.warnings.append(f"The root key was not encrypted {'anew' if again else ''}: {error}")
            return
        what = f" with {ROUNDS} rounds, as those of before make guessing cheap" if again else ""
        outcome.changes.append(f"encryption of {self.key_path}{what}")
        if check_mode:
            return
        encrypted = key_pem(key, self._passphrase)
        if read_key(encrypted, self._passphrase, "what was encrypted").public_key() != key.public_key():
            raise CertificateError("The root key changed while it was encrypted", "key_unreadable")
        write_private(self.key_path, encrypted)


def no_passphrase(key_path: Path) -> str:
    """Return the warning of a key that is stored in clear text."""
    return (
        f"The root key {key_path} has no passphrase: who reads that file can become every workload of the "
        "mesh. Set certificates_root_passphrase; the key is then encrypted in place"
    )


def make_root(folder: Path, passphrase: str | None, profile: RootProfile) -> x509.Certificate:
    """Make a root in a folder, and return its certificate.

    A run that was killed may have left a key without its certificate. That key is used.
    """
    key_path = folder / "root-key.pem"
    text = read_text(key_path)
    key = new_key(profile.key) if text is None else read_key(text, passphrase, str(key_path))
    if text is None:
        write_private(key_path, key_pem(key, passphrase))
    root = new_root(key, profile.organization, profile.lifetime, datetime.now(UTC))
    write_private(folder / "root-cert.pem", chain_pem([root]))
    return root


def judge_given_root(
    members: Sequence[Member], chain: str, renew_within: timedelta, authority: Authority | None
) -> RootOutcome:
    """Judge a root that the user or an external CA gives. Create nothing.

    :param chain: PEM text; the CA that signs intermediate CAs first, its root last.
    :param authority: the same CA with its key; None if the key is not given.
    :raises CertificateError: the CA cannot be the mesh's root. The message says why.
    """
    certificates = complete_chain(read_chain(chain, "The root certificate given"), ())
    judge_root(certificates, "The root certificate given")
    if authority:
        require_key(authority, "the root key given")
    outcome = RootOutcome(certificates, [], chain_weaknesses(certificates))
    require_root(certificates[-1], _read_all(members, outcome))
    outcome.warnings += _short_root_warnings(certificates, renew_within)
    return outcome


def load_authority(
    chain: str,
    key_path: str | None,
    key_content: str | None,
    passphrase: str | None,
    issuers: str | None = None,
) -> Authority:
    """Return a CA with its key, from a file or from a text.

    :param issuers: PEM text of CAs that may be missing at the end of the chain.
    :raises CertificateError: ``key_lost``: the file does not exist; or the chain or the key cannot be read.
    """
    text = read_text(real_path(key_path)) if key_path else key_content
    if text is None:
        raise CertificateError(
            f"The CA cannot sign: its key {key_path} is lost. Nothing was changed, and no second root is "
            "made, as clusters trust this one",
            "key_lost",
            next_step="Bring the key back from where you keep a copy, or set certificates_backend to "
            "csr or vault",
        )
    what = f"the key {key_path}" if key_path else "the key given"
    known = read_chain(issuers, "the mesh's CA") if issuers else ()
    return Authority(
        complete_chain(read_chain(chain, "The chain given"), known), read_key(text, passphrase, what)
    )


def require_key(authority: Authority, what: str) -> None:
    """Raise CertificateError ``key_mismatch`` unless the key is the CA's own."""
    if not key_belongs(authority.certificate, authority.key):
        raise CertificateError(
            f"{what[0].upper()}{what[1:]} belongs to another certificate than "
            f"{authority.certificate.subject.rfc4514_string()}. Nothing was changed",
            "key_mismatch",
            next_step="Give the key with which that certificate was made",
        )


def judge_root(chain: tuple[x509.Certificate, ...], what: str) -> None:
    # The intermediate CAs of the clusters are one level below this chain.
    if problems := chain_problems(chain, datetime.now(UTC), cas_below=1):
        raise CertificateError(
            f"{what} cannot be the root CA of a mesh: {'; '.join(problems)}. Nothing was changed, and no "
            "second root is made, as clusters may trust this one",
            "root_unfit",
            next_step="Give a CA that may sign intermediates, such as a new root by playbook rotate_root",
        )


def _require_new_mesh(members: Sequence[Member], new_mesh: str | None, check_mode: bool) -> None:
    """Refuse to make a root if the mesh may have one already.

    :param new_mesh: ID of a mesh that the user declares to have no root.
    :raises CertificateError: ``mesh_not_read``: a member could not be read; ``root_missing``: a member is in
        a mesh, according to its record.
    """
    mesh = next((member.mesh for member in members if member.mesh), None)
    if mesh and new_mesh == mesh:
        return
    how = f"certificates_new_mesh: {mesh}" if mesh else "certificates_new_mesh, with the mesh's ID"
    unread = [member.name for member in members if not Path(member.kubeconfig).is_file()]
    # Check mode can predict even if no member has a kubeconfig yet.
    if unread and not (check_mode and len(unread) == len(members)):
        raise CertificateError(
            f"There is no root CA here, and {', '.join(unread)} could not be asked for the mesh's, for want "
            "of a kubeconfig. A second root would cut clusters off. Nothing was changed",
            "mesh_not_read",
            next_step="Run playbook kubeconfig without --limit, or bring back the folder ca of the mesh's "
            f"state; for a mesh that is new, set {how}",
            details={"clusters": unread},
        )

    def record(member: Member) -> str | None:
        found = read_record(KubernetesClient(member.kubeconfig, name=member.name))
        return f"{member.name} is {found.cluster} of mesh {found.mesh}" if found else None

    known = [told for told in concurrently(record, [] if unread else members) if told]
    if known:
        raise CertificateError(
            f"There is no root CA here, but clusters are in a mesh already, by their records: "
            f"{'; '.join(known)}. A second root would cut them off. Nothing was changed",
            "root_missing",
            next_step="Bring back root-key.pem and root-cert.pem, or set mesh_state_dir to the folder whose "
            f"ca has them. Only for a mesh that is made anew, set {how}",
        )


def _short_root_warnings(chain: Sequence[x509.Certificate], renew_within: timedelta) -> list[str]:
    first = min(chain, key=lambda item: item.not_valid_after_utc)
    ends = time_text(first.not_valid_after_utc)
    if first.not_valid_after_utc - datetime.now(UTC) >= renew_within:
        return []
    if is_root(first):
        return [f"The root CA ends at {ends}, and intermediates with it: change it by playbook rotate_root"]
    told = (
        f"The CA {first.subject.rfc4514_string()}, by which the clusters' are signed, ends at {ends}, and "
        "intermediates with it: have it renewed by what issued it, and give it with its new certificate"
    )
    return [told]


def _read_all(members: Sequence[Member], lenient: RootOutcome | None) -> list[ClusterTrust]:
    """Return the trust of every member that has a kubeconfig.

    :param lenient: outcome for warnings about clusters that do not answer, or whose secret cannot be read.
        Such a cluster is refused at its own turn, and the others need not wait for that. None to raise an
        error at once.
    """

    def read(member: Member) -> ClusterTrust | str | None:
        if not Path(member.kubeconfig).is_file():
            return None
        try:
            return read_trust(KubernetesClient(member.kubeconfig, name=member.name))
        except ExomeshError as error:
            error.about(cluster=member.name)
            if lenient is None:
                raise
            return f"What it trusts is not known: {error}"

    found = concurrently(read, members)
    if lenient:
        lenient.warnings += [item for item in found if isinstance(item, str)]
    return [item for item in found if isinstance(item, ClusterTrust)]
