"""How an import is to be done: the query of the request, checked, and as a job keeps it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args
from uuid import UUID

from engram.domain.arrival import Plan
from engram.domain.fields import FieldError, label
from engram.domain.memory import invalid
from engram.errors import Fault
from engram.importers.formats import by_name

ImportStrategy = Literal["skip", "merge", "replace"]
_STRATEGIES = get_args(ImportStrategy)
_LINES_TYPES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")


@dataclass(frozen=True, slots=True)
class Options:
    """How an import is to be done.

    Attributes:
        namespace: where every item goes, whatever it says.
        format: name of the format, when it shall not be detected.
        lines: the sender says that the body is JSON Lines.
        revive: memories that were deleted here are stored anew.
    """

    strategy: ImportStrategy = "skip"
    dry_run: bool = False
    namespace: str | None = None
    format: str | None = None
    revive: bool = False
    lines: bool = False

    @property
    def filename(self) -> str | None:
        """A name for the reader, whose ending tells JSON Lines."""
        return "body.ndjson" if self.lines else None

    def plan(self, job: UUID | None = None, source: str | None = None) -> Plan:
        """Return what the rules of arrival need to know."""
        scope = None if self.namespace is not None else source
        return Plan(job, self.revive, self.namespace, scope)

    def as_json(self) -> dict[str, Any]:
        """Return what a job keeps."""
        return asdict(self)


def checked(
    strategy: str,
    *,
    dry_run: bool,
    namespace: str | None,
    format_name: str | None,
    revive: bool,
    content_type: str,
) -> Options:
    """Return the options of a request.

    Raises:
        InvalidError: a strategy or a namespace that cannot be.
        UsageError: an unknown format name.
    """
    if strategy not in _STRATEGIES:
        listed = ", ".join(_STRATEGIES)
        raise invalid([Fault("/strategy", "unknown_strategy", f"must be one of {listed}")])
    try:
        name = label(256)(namespace)
    except FieldError as error:
        raise invalid([Fault("/namespace", error.code, str(error))]) from None
    if format_name is not None:
        by_name(format_name)
    lines = content_type.partition(";")[0].strip().lower() in _LINES_TYPES
    chosen: ImportStrategy = strategy  # type: ignore[assignment]  # looked up just above
    return Options(chosen, dry_run, name, format_name, revive, lines)
