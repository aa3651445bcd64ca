"""Settings of decay in the database: a workspace's rules, read as a whole, changed one by one."""

from collections import defaultdict
from collections.abc import Mapping
from uuid import UUID

from engram.domain.decay_settings import NAMES, Override, Rule, Rules
from engram.errors import ConflictError
from engram.storage import auditing
from engram.storage.connection import Connection
from engram.storage.queries import statement

# All of a workspace's are read for each blended search.
MAX_RULES = 1_000


async def rules_of(connection: Connection, workspace: UUID) -> Rules:
    """Return the rules of one workspace."""
    return (await _rules(connection, workspace)).get(workspace, Rules())


async def all_rules(connection: Connection) -> dict[UUID, Rules]:
    """Return the rules of every workspace that has any."""
    return await _rules(connection, None)


async def _rules(connection: Connection, workspace: UUID | None) -> dict[UUID, Rules]:
    return {
        owner: Rules(listed) for owner, listed in (await _listed(connection, workspace)).items()
    }


async def _listed(connection: Connection, workspace: UUID | None) -> dict[UUID, list[Rule]]:
    found: defaultdict[UUID, list[Rule]] = defaultdict(list)
    for row in await connection.fetch(statement("decay", "rules"), workspace):
        override = Override(**{name: row[name] for name in NAMES})
        found[row["workspace"]].append(Rule(row["namespace"], row["is_prefix"], override))
    return dict(found)


async def listed_rules(connection: Connection, workspace: UUID) -> list[Rule]:
    """Return the rules of a workspace for namespaces, its own settings aside, in order of name."""
    found = (await _listed(connection, workspace)).get(workspace, [])
    chosen = (rule for rule in found if rule.namespace or not rule.is_prefix)
    return sorted(chosen, key=lambda rule: (rule.namespace, rule.is_prefix))


async def change_rule(
    connection: Connection,
    workspace: UUID,
    namespace: str,
    changes: Mapping[str, float | bool | None],
    *,
    is_prefix: bool,
    actor: str,
) -> Rules:
    """Change settings of a namespace, of a prefix, or of the workspace (the empty prefix).

    Returns:
        All rules of the workspace as they are then; one that says nothing any more is gone.

    Raises:
        ConflictError: the workspace has a thousand rules already.
    """
    await connection.execute(statement("decay", "lock_rules"), workspace)
    before = await rules_of(connection, workspace)
    own = before.own(namespace, is_prefix=is_prefix)
    changed = own.changed(changes)
    if changed.is_empty:
        await connection.execute(statement("decay", "drop_rule"), workspace, namespace, is_prefix)
    else:
        if own.is_empty:
            await _refuse_too_many(connection, workspace)
        values = [getattr(changed, name) for name in NAMES]
        await connection.execute(
            statement("decay", "save_rule"), workspace, namespace, is_prefix, *values, actor
        )
    entry = auditing.Entry(workspace, actor, "decay.changed", namespace or None, dict(changes))
    await auditing.record(connection, entry)
    return await rules_of(connection, workspace)


async def _refuse_too_many(connection: Connection, workspace: UUID) -> None:
    if await connection.fetchval(statement("decay", "count_rules"), workspace) >= MAX_RULES:
        raise ConflictError(
            "too_many_decay_rules",
            f"The workspace has {MAX_RULES:,} rules for namespaces already.",
            cure="Clear some, or put one on a prefix instead of many namespaces.",
        )
