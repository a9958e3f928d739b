# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names have secrets as their values."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.secret_names import (
    Secrecy,
    is_count,
    looks_drawn,
    secrecy,
)


@pytest.mark.parametrize(
    "name",
    ["password", "DB_PASSWORD", "clientSecret", "access_token", "tls.private-key", "apiKey", "API_KEY_2"],
)
def test_names_of_secrets(name: str) -> None:
    assert secrecy(name) >= Secrecy.TEXT


@pytest.mark.parametrize(
    "name",
    [
        "name",
        "image",
        "tokenTTL",
        "secretName",
        "imagePullSecrets",
        "public_key",
        "passwordLength",
        "client_id",
        "",
    ],
)
def test_names_of_other_values(name: str) -> None:
    assert secrecy(name) is Secrecy.NO


def test_a_key_may_be_that_of_a_label() -> None:
    assert secrecy("key") is Secrecy.MAYBE
    assert secrecy("max_tokens") is Secrecy.MAYBE


def test_a_number_of_tokens_is_no_secret() -> None:
    assert is_count("tokens", "100")
    assert not is_count("tokens", "s3cret")
    assert not is_count("token", "100")


def test_random_texts_are_told_from_words() -> None:
    assert looks_drawn("aB3dE5fG7hJ9kL1m")
    assert not looks_drawn("istio-eastwestgateway-with-a-long-name")
    assert not looks_drawn("sha256:" + "0a" * 32)
    assert not looks_drawn("a1B2c3")
