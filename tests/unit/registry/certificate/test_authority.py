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

from registry.certificate.authority import KEPT, Succession, authorities, is_new, trusted_with, warnings
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
