"""The CA certificates that nodes and clients trust: which of the stack's earlier ones stay beside the present one.

A CA that is renewed keeps key and subject, so whoever has the old certificate accepts what is signed by the new one.
Another CA is trusted beside the one before, so that no pull fails while nodes have one of the two only. The earlier one
goes at an `up` that is `KEPT` later. All of this is pure, but for the warnings.
"""

import hashlib
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from .contract import RENEWAL, HandOver

KEPT = 24 * 3600
"""Seconds after the making of a CA from which on an `up` ends the trust in the CAs before it."""
_END = "-----END CERTIFICATE-----\n"
_DAY = 24 * 3600
_SETTING = "python3 -m registry.clients --node NAME"


@dataclass(frozen=True, kw_only=True)
class Authority:
    """One CA certificate."""

    pem: str
    """The certificate, PEM."""
    identity: str
    """The subject, which no other key of this program has."""
    begins: float
    ends: float
    """The time from which on, and the one until which it is valid, in seconds since 1970."""


def authorities(bundle: str) -> list[Authority]:
    """The certificates in a PEM text that can be read, in its order."""
    texts = [text[text.index("-----BEGIN") :] + _END for text in bundle.split(_END)[:-1] if "-----BEGIN" in text]
    return [found for found in map(_read, texts) if found]


def _read(pem: str) -> Authority | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        return None
    # What is no CA is not among these, and yet can be trusted: a server certificate that signs itself.
    found = context.get_ca_certs()
    if not found:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        return Authority(pem=pem, identity=digest, begins=0, ends=float("inf"))
    begins, ends = (ssl.cert_time_to_seconds(str(found[0][key])) for key in ("notBefore", "notAfter"))
    return Authority(pem=pem, identity=repr(found[0]["subject"]), begins=begins, ends=ends)


def trusted_with(ca: str, recorded: str, now: float) -> str:
    """What nodes and clients have to trust, PEM: the present CA, and those before it that may still be in use.

    Args:
        ca: The present CA's certificates, PEM; empty if the registry's certificate is publicly trusted.
        recorded: What they had to trust after the last `up`.
        now: The time in seconds since 1970.
    """
    present = authorities(ca)
    if not present:
        return ca
    own = {each.identity for each in present}
    before = authorities(recorded)
    if before and before[0].identity in own and now - present[0].begins > KEPT:
        return ca
    return ca + "".join(each.pem for each in before if each.identity not in own and each.ends > now)


def is_new(ca: str, recorded: str) -> bool:
    """Whether somebody who trusts what is recorded may refuse what the present CA signs."""
    return bool({each.identity for each in authorities(ca)} - {each.identity for each in authorities(recorded)})


def before_renewal(ca: str, recorded: str, renewed: str, now: float) -> str:
    """The certificates that the present CA had before it was renewed and that have not ended, PEM.

    Whoever trusts one of these accepts the registry until that one ends: Go and others look at a root's dates, too
    (crypto/x509, verify.go).

    Args:
        ca: The present CA's certificates, PEM.
        recorded: What had to be trusted after the last `up`.
        renewed: What this said at the last `up`.
        now: The time in seconds since 1970.
    """
    present = authorities(ca)[:1]
    before = {each.pem: each for each in authorities(renewed + recorded)}
    return "".join(
        old.pem
        for old in before.values()
        for each in present
        if old.identity == each.identity and old.pem != each.pem and old.ends > now
    )


def warnings(ca: str, recorded: str, now: float, *, renewed: str = "", external: bool = False) -> Sequence[str]:
    """What to say of the CA after an `up`: it was renewed, it is another one, or it ends soon.

    Args:
        ca: The present CA's certificates, PEM.
        recorded: What had to be trusted after the last `up`.
        now: The time in seconds since 1970.
        renewed: The certificates that the CA had before it was renewed, as the last `up` knew them.
        external: Whether somebody else gives the nodes what they have to trust.
    """
    found: list[str] = []
    before = authorities(recorded)
    for each in authorities(ca)[:1]:
        same = [old for old in before if old.identity == each.identity]
        held = authorities(before_renewal(ca, recorded, renewed, now))
        if before and not same:
            nodes = (
                f"Nodes do not trust it before they have their setting again ({_SETTING}), and "
                if external
                else "Nodes trust both for now; "
            )
            found.append(
                f"The CA is another one than before. {nodes}clients need their snippet again (python3 -m "
                "registry.clients --list)."
            )
        elif external and held:
            found.append(
                "The CA was renewed, with the same key. Nodes and clients that have the certificate from before accept "
                f"the registry until {_date(min(old.ends for old in held))}. By then nodes need their setting again "
                f"({_SETTING}), and clients their snippet (python3 -m registry.clients --list). Each `up` until then "
                "says so, since it cannot see who has it."
            )
        elif same and same[0].pem != each.pem:
            found.append(
                f"The CA was renewed, with the same key. Clients that have the certificate from before accept the "
                f"registry until {_date(same[0].ends)}, and need their snippet again by then (python3 -m "
                "registry.clients --list)."
            )
        if each.ends - now < RENEWAL * 3600 - _DAY:
            found.append(
                f"The CA ends on {_date(each.ends)}, and nothing can be pulled from then on: look at what renews it "
                "(kubectl get certificates -A), then run pulumi up."
            )
    return found


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


@dataclass(frozen=True, kw_only=True)
class Succession:
    """How the present CA takes over from the one before."""

    recorded: str
    """What nodes and clients had to trust after the last `up`, PEM; empty before the first one."""
    renewed: str = ""
    """The certificates that the CA had before it was renewed, as the last `up` knew them, PEM."""
    external: bool = False
    """Whether somebody else gives the nodes what they have to trust."""
    hand_over: HandOver
    """Gives the nodes what they have to trust before a certificate of a new CA is served."""

    def trusted(self, namespace: pulumi.Input[str], ca: pulumi.Input[str]) -> pulumi.Output[str]:
        """What has to be trusted, PEM, known once the nodes trust it.

        Args:
            namespace: The stack's namespace.
            ca: The present CA's certificates, PEM; empty if the registry's certificate is publicly trusted.
        """

        async def handed_over(known: Sequence[str]) -> str:
            place, present = known
            bundle = trusted_with(present, self.recorded, time.time())
            if is_new(present, self.recorded) and not pulumi.runtime.is_dry_run():
                await self.hand_over(place, bundle)
            said = warnings(present, self.recorded, time.time(), renewed=self.renewed, external=self.external)
            for sentence in said:
                pulumi.log.warn(sentence)
            return bundle

        return pulumi.Output.all(namespace, ca).apply(handed_over)

    def before_renewal(self, ca: pulumi.Input[str]) -> pulumi.Output[str]:
        """The certificates that the CA had before it was renewed and that have not ended, for the next `up`, PEM.

        Args:
            ca: The present CA's certificates, PEM; empty if the registry's certificate is publicly trusted.
        """
        return pulumi.Output.from_input(ca).apply(
            lambda present: before_renewal(present, self.recorded, self.renewed, time.time())
        )
