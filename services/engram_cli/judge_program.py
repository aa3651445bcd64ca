"""A judge that is a program of the user's: pairs go in as JSON lines, scores come out."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from engram.errors import InvalidError, UnavailableError, UsageError

# Of engram's own: what it is given are texts, and it need not reach the store they come from.
_WITHHELD: Final = ("ENGRAM_", "VOYAGE_", "PG")


@dataclass(frozen=True, slots=True)
class ProgramJudge:
    """Implements `engram.domain.dedup_decision.Judge`.

    Attributes:
        command: the program and its arguments, as a shell would split them; no shell is asked.
        timeout_s: how long it may take for all pairs.
    """

    command: str
    timeout_s: float

    def rank(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the program's score of each pair; it is not started for none.

        It reads ``{"id", "a", "b"}`` a line, and writes ``{"id", "score"}`` for each, in any order.

        Raises:
            UsageError: there is no such program.
            UnavailableError: it failed, or took too long.
            InvalidError: what it wrote are not these scores.
        """
        if not pairs:
            return []
        lines = [
            json.dumps({"id": str(number), "a": a, "b": b})
            for number, (a, b) in enumerate(pairs, 1)
        ]
        written = self._run("".join(line + "\n" for line in lines).encode())
        scores = _scores(written, len(pairs))
        return [scores[str(number)] for number in range(1, len(pairs) + 1)]

    def _run(self, given: bytes) -> bytes:
        with self._started() as process:
            try:
                written, _ = process.communicate(given, timeout=self.timeout_s)
            except subprocess.TimeoutExpired:
                _end(process)
                raise UnavailableError(
                    "judge_timeout", f"The judge took longer than {self.timeout_s:g} s.",
                    cure="Give it more with --rank-timeout, or rank fewer with --namespace.",
                ) from None  # fmt: skip
            except BaseException:
                _end(process)
                raise
        if process.returncode:
            raise UnavailableError(
                "judge_failed", f"The judge ended with status {process.returncode}.",
                cure="Run it by itself on a line of pairs; without --rank-by none is asked.",
            )  # fmt: skip
        return bytes(written)

    def _started(self) -> subprocess.Popen[bytes]:
        try:
            # A session of its own: what it has started ends with it.
            return subprocess.Popen(  # noqa: S603 - the user's own program, without a shell
                shlex.split(self.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
            )
        except (OSError, ValueError, IndexError) as error:
            raise UsageError(
                "no_judge", f"The judge cannot be started: {type(error).__name__}.",
                cure="--rank-by takes a program and its arguments, such as 'python3 rank.py'.",
            ) from error  # fmt: skip


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _scores(written: bytes, count: int) -> dict[str, float]:
    """Return the score of each number from 1 to ``count``."""
    expected = {str(number) for number in range(1, count + 1)}
    scores: dict[str, float] = {}
    for number, line in enumerate(written.splitlines(), 1):
        if line.strip():
            pair, score = _score(line, number)
            if pair not in expected or pair in scores:
                raise _bad_score(f"line {number} is of no pair it was given, or of one again")
            scores[pair] = score
    if len(scores) < count:
        raise _bad_score(f"{count - len(scores)} of {count} pairs have none")
    return scores


def _score(line: bytes, number: int) -> tuple[str, float]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise _bad_score(f"line {number} is no JSON") from None
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise _bad_score(f"line {number} has no id")
    score = row.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise _bad_score(f"the score of line {number} is no number")
    if not (math.isfinite(score) and 0 <= score <= 1):
        raise _bad_score(f"the score of line {number} is not from 0 to 1")
    return row["id"], float(score)


def _bad_score(why: str) -> InvalidError:
    return InvalidError(
        "bad_score",
        f"The judge's scores cannot be read: {why}.",
        cure='For each line it is given it writes one: {"id": "1", "score": 0.8}.',
    )
