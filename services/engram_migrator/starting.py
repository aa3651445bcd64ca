"""Starts a migration: probes the provider, makes the target space, and turns dual-write on."""

import structlog

from engram.broker.topology import add_target_durable
from engram.domain.spaces import SpaceSpec, parse_embedding
from engram.embedding.probe import Probe, probe
from engram.embedding.provider import ProviderError
from engram.embedding.registry import open_provider
from engram.errors import ConflictError
from engram.serving.process import Service
from engram.storage import migrating, spaces
from engram.storage.connection import Connection
from engram.storage.migrating import Migration
from engram.storage.spaces import Space

log = structlog.get_logger(__name__)


async def start(service: Service, migration: Migration, actor: str) -> None:
    """Turn dual-write on; a start that was cut short is begun again from the beginning.

    The durable of the target's live lane is there before the space is: whatever is written from
    then on rings in both. Space, pointer to it and phase are one transaction.

    Args:
        service: the process.
        migration: in the phase planned.
        actor: the key that asked.

    Raises:
        EngramError: the provider cannot be asked, its vectors do not fit, there is no room for
            another space, or another migration is under way.
    """
    spec = parse_embedding(migration.target_key)
    seen = await _probed(service, spec)
    async with service.pool.acquire() as connection, connection.transaction():
        current = await migrating.lock(connection, migration.id)
        if current.phase != "planned":
            return
        target, made = await _target(service, connection, current, spec, seen)
        await migrating.set_target(connection, current.id, target.id, made=made)
        counts = {"deterministic": seen.deterministic, "made": made}
        await migrating.enter(connection, current, "dual_write", actor=actor, counts=counts)
    await service.spaces.refresh()
    log.info("dual-write is on", migration=str(migration.id), space=spec.key)


async def _target(
    service: Service, connection: Connection, migration: Migration, spec: SpaceSpec, seen: Probe
) -> tuple[Space, bool]:
    """Return the target, and whether it was made now; one that is there is used as it is."""
    known = {space.spec: space for space in await spaces.all_spaces(connection)}
    if spec in known:
        found = known[spec]
        _refuse_unusable(found, migration)
        await spaces.widen(connection, found.id, migration.workspaces)
        return found, False

    async def before(space: int) -> None:
        await add_target_durable(service.jetstream, space)

    made = await spaces.create_space(
        connection,
        spec,
        deterministic=seen.deterministic,
        workspaces=migration.workspaces,
        before=before,
    )
    return made, True


def _refuse_unusable(space: Space, migration: Migration) -> None:
    if space.id == migration.source_space:
        raise ConflictError(
            "same_space",
            f"The memories are in {space.spec.key} already.",
            cure="Name another space.",
        )
    if not space.active:
        raise ConflictError(
            "space_retired",
            f"The space {space.spec.key} is being released.",
            cure="Wait until it is gone, then start again.",
        )


async def _probed(service: Service, spec: SpaceSpec) -> Probe:
    """Ask the provider before anything is stored with it."""
    provider = open_provider(spec, service.settings.providers)
    try:
        return await probe(provider)
    except ProviderError as error:
        raise ConflictError(
            "target_unavailable",
            f"{spec.key} cannot be asked ({error.error_class}): {error.detail}",
            cure="Check its address and its key, then start again.",
        ) from error
    finally:
        await provider.close()
