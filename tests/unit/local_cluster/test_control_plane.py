"""Which addresses the cluster's DNS server gives for names under nip.io."""

import re
import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from local_cluster import control_plane


def answer(name: str) -> str | None:
    """The address that the DNS server's configuration gives for a name under nip.io; None if there is none."""
    text = control_plane.corefile()
    [line] = {line for line in text.splitlines() if line.strip().startswith("match ")}
    for pattern in shlex.split(line)[1:]:  # the first that matches wins
        match = re.match(pattern, f"{name}.nip.io.")
        if match:
            return ".".join(match.groups())
    return None


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("10.99.0.200", "10.99.0.200"),
        ("x.10.99.0.200", "10.99.0.200"),
        ("10-99-0-200", "10.99.0.200"),
        ("x.10-99-0-200", "10.99.0.200"),
        ("x-10-99-0-200", "10.99.0.200"),
        ("registry-pr-42.10-99-0-200", "10.99.0.200"),
        ("1-2-3-4.10-99-0-200", "1.2.3.4"),  # the first one: what a host name has to avoid
        ("1-2-3-4.10.99.0.200", "4.10.99.0"),  # and dots before dashes
        ("256.1.1.1", None),
        ("1.2.3", None),
        ("registry", None),
    ],
)
def test_a_name_is_answered_like_nip_io_does(name: str, address: str | None) -> None:
    assert answer(name) == address


@given(st.ip_addresses(v=4).map(str), st.sampled_from(["", "a.", "a-b.", "a-"]), st.booleans())
@example("255.255.255.255", "a-", True)
@example("0.0.0.0", "", False)
def test_every_address_is_answered_in_both_spellings(address: str, before: str, dashed: bool) -> None:
    assert answer(before + (address.replace(".", "-") if dashed else address)) == address
