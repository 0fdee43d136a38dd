"""Which CAs are trusted beside the present one, for how long, and what is said of it; with certificates of OpenSSL."""

import asyncio
import re
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

import pulumi
import pytest

from registry.certificate.authority import (
    KEPT,
    Succession,
    authorities,
    before_renewal,
    is_new,
    trusted_with,
    warnings,
)
from registry.certificate.contract import CA_VALIDITY, RENEWAL
from tests.unit.support.engine import Recorder, run_component

NOW = time.time()
DAY = 24 * 3600
Make = Callable[..., str]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a CA certificate with the key of a name, `age` days ago."""
    folder = tmp_path_factory.mktemp("ca")

    def openssl(*arguments: str) -> str:
        done = subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout

    @cache
    def make(name: str, age: float = 0, days: float = CA_VALIDITY / 24) -> str:
        if not (folder / name).exists():
            openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name)
        begin = datetime.fromtimestamp(NOW, UTC) - timedelta(days=age)
        begins, ends = (each.strftime("%Y%m%d%H%M%SZ") for each in (begin, begin + timedelta(days=days)))
        openssl("req", "-new", "-key", name, "-subj", f"/CN=Private registry CA {name}", "-out", f"{name}.csr")
        (folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n"
            "policy=any\nunique_subject=no\nx509_extensions=ext\n[any]\ncommonName=supplied\n"
            "[ext]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n"
        )
        (folder / "index").touch()
        times = ["-startdate", begins, "-enddate", ends]
        openssl(
            "ca", "-config", "ca.cnf", "-batch", "-selfsign", "-create_serial", "-notext", "-keyfile", name, "-in",
            f"{name}.csr", "-out", f"{name}.crt", *times,
        )  # fmt: skip
        return (folder / f"{name}.crt").read_text()

    return make


def test_the_first_ca_is_trusted_alone(make: Make) -> None:
    ca = make("one")
    assert trusted_with(ca, "", NOW) == ca
    assert is_new(ca, "")


def test_the_same_ca_stays_as_it_is(make: Make) -> None:
    ca = make("one", age=3)
    assert trusted_with(ca, ca, NOW) == ca
    assert not is_new(ca, ca)
    assert warnings(ca, ca, NOW) == []


def test_a_renewed_ca_needs_nobody_to_trust_the_old_certificate_beside_it(make: Make) -> None:
    old, new = make("one", age=125), make("one")
    assert old != new
    assert trusted_with(new, old, NOW) == new
    assert not is_new(new, old)
    [sentence] = warnings(new, old, NOW)
    assert "renewed, with the same key" in sentence
    end = datetime.fromtimestamp(NOW, UTC) + timedelta(days=CA_VALIDITY / 24 - 125)
    assert f"until {end:%Y-%m-%d}" in sentence


def test_with_nodes_that_somebody_else_sets_up_each_up_names_them_until_the_certificate_from_before_ends(
    make: Make,
) -> None:
    older, old, new = make("one", age=130), make("one", age=125), make("one")
    ends = datetime.fromtimestamp(NOW, UTC) + timedelta(days=CA_VALIDITY / 24 - 125)
    kept = before_renewal(new, old, "", NOW)
    assert kept == old
    for recorded, renewed in ((old, ""), (new, kept)):
        [sentence] = warnings(new, recorded, NOW, renewed=renewed, external=True)
        assert f"Nodes and clients that have the certificate from before accept the registry until {ends:%Y-%m-%d}" in (
            sentence
        )
        assert "nodes need their setting again (python3 -m registry.clients --node NAME)" in sentence
    assert warnings(new, new, NOW, renewed=kept) == [], "the agents have seen to it, and clients were named once"
    # One that was renewed twice counts from the first of its certificates on, and what has ended does not count.
    assert before_renewal(new, old, older, NOW) == older + old
    assert f"{ends - timedelta(days=5):%Y-%m-%d}" in warnings(new, new, NOW, renewed=older + old, external=True)[0]
    assert before_renewal(new, new, kept, ends.timestamp() + 1) == ""
    assert warnings(new, new, ends.timestamp() + 1, renewed=kept, external=True) == []
    # Another CA has nothing to do with it.
    assert before_renewal(make("two"), new, kept, NOW) == ""


def test_of_another_ca_the_nodes_that_somebody_else_sets_up_are_not_said_to_trust_it(make: Make) -> None:
    [sentence] = warnings(make("two"), make("one", age=3), NOW, external=True)
    assert "Nodes do not trust it before they have their setting again" in sentence
    assert "both" not in sentence


def test_another_ca_is_trusted_beside_the_ones_before_for_a_day(make: Make) -> None:
    one, two = make("one", age=3), make("two")
    both = trusted_with(two, one, NOW)
    assert both == two + one
    assert is_new(two, one)
    assert "another one than before" in warnings(two, one, NOW)[0]
    # The next `up` changes nothing, and the one after that would not lose the first CA, were it only a minute later.
    assert trusted_with(two, both, NOW) == both
    assert warnings(two, both, NOW) == []
    three = make("three")
    assert trusted_with(three, both, NOW) == three + two + one
    assert trusted_with(two, both, NOW + KEPT + DAY) == two


def test_what_has_ended_is_not_trusted_on(make: Make) -> None:
    assert trusted_with(make("two"), make("one", age=200), NOW) == make("two")


def test_a_ca_from_long_ago_takes_over_with_the_one_before_beside_it(make: Make) -> None:
    """A ClusterIssuer's CA is older than a day when the stack begins to use it."""
    company, own = make("company", age=100, days=1000), make("one")
    assert trusted_with(company, own, NOW) == company + own
    assert trusted_with(company, company + own, NOW) == company


def test_publicly_trusted_needs_no_ca_and_what_follows_is_handed_over(make: Make) -> None:
    ca = make("one")
    assert trusted_with("", ca, NOW) == ""
    assert not is_new("", ca)
    assert is_new(ca, "")


def test_up_warns_of_a_ca_that_nobody_has_renewed_in_its_last_60_days(make: Make) -> None:
    assert warnings(make("one", age=118), make("one", age=118), NOW) == []
    late = make("one", age=(CA_VALIDITY - RENEWAL) / 24 + 2)
    [sentence] = warnings(late, late, NOW)
    assert re.search(r"The CA ends on \d{4}-\d\d-\d\d, and nothing can be pulled from then on", sentence)


def test_a_text_without_certificates_has_none() -> None:
    assert authorities("") == authorities("no PEM") == []


@pytest.mark.parametrize(("preview", "calls"), [(False, 1), (True, 0)])
def test_the_nodes_get_another_ca_before_anything_goes_on_and_no_preview_gives_them_any(
    make: Make, preview: bool, calls: int
) -> None:
    one, two = make("one"), make("two")
    given: list[tuple[str, str]] = []

    async def hand_over(namespace: str, bundle: str) -> None:
        await asyncio.sleep(0)
        given.append((namespace, bundle))

    succession = Succession(recorded=one, hand_over=hand_over)

    def known() -> dict[str, pulumi.Output[str]]:
        return {name: succession.trusted("registry", ca) for name, ca in (("same", one), ("other", two))}

    found = run_component(Recorder(preview=preview), known)
    assert found == {"same": one, "other": two + one}
    assert given == [("registry", two + one)] * calls
