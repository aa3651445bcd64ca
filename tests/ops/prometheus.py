"""A real Prometheus of one test's own, scraping every second."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from engram_cli.runtime.ports import Ports
from tests.support.wait import eventually


class Prometheus:
    """Its query API.

    Args:
        url: where it listens.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=30)

    async def get(self, path: str, **params: Any) -> Any:
        """Return what it answers; an expression that it cannot evaluate is an error."""
        answer = await self._client.get(f"/api/v1/{path}", params=params)
        body = answer.json()
        assert body["status"] == "success", f"{params}: {body}"
        return body["data"]

    async def ready(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(httpx.TransportError):
            return (await self._client.get("/-/ready")).is_success
        return False

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


@contextlib.asynccontextmanager
async def prometheus(
    folder: Path, targets: Sequence[str], rules: Path
) -> AsyncIterator[Prometheus]:
    """Run one that scrapes these addresses and evaluates these rules.

    Args:
        folder: an empty one, for all it writes.
        targets: host and port of each.
        rules: a file of rules.
    """
    port = _configured(folder, targets, rules)
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Prometheus(f"http://127.0.0.1:{port}")
    try:
        await eventually(server.ready, 20)
        yield server
    finally:
        await server.close()
        process.terminate()
        await process.wait()


def _configured(folder: Path, targets: Sequence[str], rules: Path) -> int:
    """Write what it reads and return a free port."""
    scraped = {"job_name": "engram", "static_configs": [{"targets": list(targets)}]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [scraped],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    ports = Ports()
    port = ports.keep()
    ports.release()
    return port
