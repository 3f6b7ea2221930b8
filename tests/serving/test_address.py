"""The address that `chatgpt serve` prints is one that a browser opens."""

from __future__ import annotations

import pytest

from chatgpt_cli.cli.serve import _browsable


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("0.0.0.0", "localhost"),
        ("::", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("192.168.1.5", "192.168.1.5"),
        ("::1", "[::1]"),
    ],
)
def test_all_addresses_are_no_address(address: str, shown: str) -> None:
    assert _browsable(address) == shown
