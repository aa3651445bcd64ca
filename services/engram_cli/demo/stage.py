"""The stage of the demo: an ``engram up`` of its own, started and stopped around it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engram.errors import UnavailableError

_STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A running engram.

    Attributes:
        url: of the HTTP API.
        api_key: of the first workspace.
        data_dir: where everything is kept.
    """

    url: str
    api_key: str
    data_dir: Path


@contextlib.contextmanager
def stage(data_dir: Path, *, fresh: bool, embedding: str | None = None) -> Iterator[Stage]:
    """Start ``engram up`` on a directory, as a person would in another terminal.

    Args:
        data_dir: kept afterwards, so that a second run is warm.
        fresh: forget what an earlier demo left there.
        embedding: the space of the store; None leaves it to the user, or takes the local model.

    Raises:
        UnavailableError: it did not start; its own message says why.
    """
    if fresh and (data_dir / "credentials.json").is_file():
        shutil.rmtree(data_dir)
    # The local model, unless the user says otherwise: a demo must not spend anybody's money.
    env = {"ENGRAM_EMBEDDING": "minilm", **os.environ}
    if embedding is not None:
        env["ENGRAM_EMBEDDING"] = embedding
    command = [sys.executable, "-m", "engram_cli", "up", "--json", "--data", str(data_dir)]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [*command, "--port", "0", "--ops-port", "0"],
        env=env,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield _ready(process)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)


def _ready(process: subprocess.Popen[bytes]) -> Stage:
    line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise UnavailableError(
            "demo_not_started",
            "engram did not start for the demo.",
            cure="The lines above say why; `engram doctor` looks further.",
        )
    where = json.loads(line)
    return Stage(where["url"], where["api_key"], Path(where["data_dir"]))
