"""What readiness asks: whether the servers a service stands on can do what it needs of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from engram.broker import readiness
from engram.errors import UnavailableError
from engram.serving.operations import Check, Finding
from engram.serving.spaces import SpaceRegistry
from engram.storage import standing as store_standing
from engram.storage.connection import UNREACHABLE, Pool
from engram.storage.migrate import expected_version
from engram.storage.standing import Standing

log = structlog.get_logger(__name__)

_FRESH_S = 3.0
_BAD_FRESH_S = 1.0
# Together with what is asked at the same moment below the 4 s a probe waits.
_LIMIT_S = 2.5
_FILLING = 0.9


class Recent:
    """Looks at most once in a few seconds, however often and by how many readiness is asked.

    Args:
        name: of the check, in what is said when it takes too long.
        look: returns what is wrong.
        fresh_s: how long a clean look is believed; a finding is looked at again after a second.
    """

    def __init__(
        self, name: str, look: Callable[[], Awaitable[Sequence[Finding]]], fresh_s: float = _FRESH_S
    ) -> None:
        self._name = name
        self._look = look
        self._fresh_s = fresh_s
        self._looking = asyncio.Lock()
        self._found: Sequence[Finding] = ()
        self._until = 0.0

    async def __call__(self) -> Sequence[Finding]:
        """Return what is wrong, as of a moment ago."""
        async with self._looking:
            if time.monotonic() >= self._until:
                self._found = await self._bounded()
                fresh_s = min(self._fresh_s, _BAD_FRESH_S) if self._found else self._fresh_s
                self._until = time.monotonic() + fresh_s
            return self._found

    async def _bounded(self) -> Sequence[Finding]:
        try:
            async with asyncio.timeout(_LIMIT_S):
                return await self._look()
        except TimeoutError:
            detail = f"{self._name} did not answer within {_LIMIT_S:g} s."
            return [Finding(self._name, detail, "See whether the server is overloaded.")]


def store_check(pool: Pool, spaces: SpaceRegistry) -> Check:
    """Return the check of Postgres: it answers, as we need it, and holds nobody above the rules."""

    async def look() -> Sequence[Finding]:
        try:
            async with pool.acquire() as connection:
                found = await store_standing.look(connection)
        except UNREACHABLE as error:
            return [_no_postgres(error)]
        return [*store_findings(found), *_other_choice(spaces)]

    return Recent("postgres", look)


def store_findings(found: Standing) -> list[Finding]:
    """Return what is wrong with a database, each with its cure."""
    have, want = found.schema_version, expected_version()
    findings = []
    if have < want:
        detail = f"The database has schema version {have}; this engram needs {want}."
        findings.append(Finding("schema", detail, "Run `engram bootstrap` of this version."))
    elif have > want:
        # An older process goes on while an upgrade is rolled out.
        detail = f"The database has schema version {have}; this engram is of version {want}."
        cure = "Finish the upgrade: start this process anew with the newer engram."
        findings.append(Finding("schema", detail, cure, "warning"))
    if found.read_only:
        cure = "Let ENGRAM_DATABASE_URL name the primary, and see that it takes writes."
        findings.append(Finding("postgres", "Postgres answers, but takes no writes.", cure))
    return findings + _unbound(found) + _wrong_dimensions(found)


def _unbound(found: Standing) -> list[Finding]:
    findings = []
    if found.unbound_roles:
        names = ", ".join(found.unbound_roles)
        findings.append(
            Finding(
                "role",
                f"Row-level security does not bind {names}: workspaces could see each other.",
                f"ALTER ROLE … NOSUPERUSER NOBYPASSRLS for {names}.",
            )
        )
    if found.unbound_login:
        findings.append(
            Finding(
                "role",
                "The login in ENGRAM_DATABASE_URL is a superuser or bypasses row-level security.",
                "Give the service a login of its own, as docs/deploy.md shows; "
                "engram acts as lesser roles, but whoever has this login need not.",
                "warning",
            )
        )
    return findings


def _wrong_dimensions(found: Standing) -> list[Finding]:
    return [
        Finding(
            "space",
            f"The vector table of {key} holds vectors of another length.",
            "It was changed by hand: restore it from a backup, or migrate to another space.",
        )
        for key in found.wrong_dimensions
    ]


def _other_choice(spaces: SpaceRegistry) -> list[Finding]:
    other = spaces.other_choice()
    if other is None:
        return []
    cure = "Set it to what the store was made with; a migration is what moves to another space."
    return [Finding("space", f"ENGRAM_EMBEDDING names {other}, not a space here.", cure, "warning")]


def _no_postgres(error: BaseException) -> Finding:
    return Finding(
        "postgres",
        f"Postgres does not answer ({type(error).__name__}).",
        "Check ENGRAM_DATABASE_URL and the server; it is tried again all the time.",
    )


def broker_check(broker: Client, jetstream: JetStreamContext, spaces: SpaceRegistry) -> Check:
    """Return the check of NATS: connected, streams and durables there, and it really stores."""

    async def look() -> Sequence[Finding]:
        return await broker_findings(broker, jetstream, spaces.active)

    recent = Recent("nats", look)

    async def check() -> Sequence[Finding]:
        # Known at once and for nothing, so never a moment old.
        return await recent() if broker.is_connected else [_no_nats()]

    return check


async def broker_findings(
    broker: Client, jetstream: JetStreamContext, spaces: Sequence[int]
) -> list[Finding]:
    """Return what is wrong with a broker; sends a canary when nothing else shows that it stores."""
    try:
        found = await readiness.look(broker, jetstream, spaces)
    except UnavailableError as error:
        return [Finding("nats", error.detail, error.cure)]
    findings = [*_topology(found), *_filling(found)]
    if not found.missing and found.quiet_s > readiness.QUIET_S:
        try:
            await readiness.send_canary(jetstream)
        except UnavailableError as error:
            findings.append(_not_stored(error))
    return findings


async def topology_findings(
    broker: Client, jetstream: JetStreamContext, spaces: Sequence[int]
) -> list[Finding]:
    """Return what is wrong with streams and durables; nothing is published.

    Raises:
        UnavailableError: JetStream does not answer.
    """
    found = await readiness.look(broker, jetstream, spaces)
    return [*_topology(found), *_filling(found)]


def _topology(found: readiness.BrokerState) -> list[Finding]:
    findings = []
    if found.missing:
        detail = f"Not there: {', '.join(found.missing)}."
        cure = (
            "Ingest's watchdog makes it again within 30 s; if not, see its log or run `engram "
            "bootstrap`."
        )
        findings.append(Finding("topology", detail, cure))
    if found.leaderless:
        detail = f"No server leads {', '.join(found.leaderless)}."
        cure = "Most servers of the NATS cluster must be up: start those that are missing."
        findings.append(Finding("topology", detail, cure))
    return findings


def _filling(found: readiness.BrokerState) -> list[Finding]:
    full = [f"{name} ({part:.0%})" for name, part in found.filling if part >= _FILLING]
    if not full:
        return []
    cure = "A full stream refuses what is new: see why its consumers are behind (`engram status`)."
    return [Finding("stream", f"Nearly full: {', '.join(full)}.", cure, "warning")]


def _not_stored(error: UnavailableError) -> Finding:
    return Finding(
        "canary",
        f"NATS answers but stores nothing in the event stream: {error.detail}",
        "See its log. If its disk was full, free some and restart nats-server: a stream whose "
        "write failed takes nothing until then. Nothing is lost: events wait in the outbox.",
    )


def _no_nats() -> Finding:
    return Finding(
        "nats",
        "NATS is not connected.",
        "Check ENGRAM_NATS_URL and the server; it is tried again all the time.",
    )


def refuse_unbound(found: Standing) -> None:
    """Refuse to start with a role that row-level security does not bind; warn of such a login.

    Raises:
        UnavailableError: ``privileged_role``.
    """
    for finding in _unbound(found):
        if finding.severity == "failure":
            raise UnavailableError("privileged_role", finding.detail, cure=finding.cure)
        log.warning("login is privileged", detail=finding.detail, cure=finding.cure)
