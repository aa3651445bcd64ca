"""A real Prometheus scrapes a real `engram up` under load: every query of ours returns data."""

import asyncio
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from engram_cli.bench.fake_process import fake_provider
from engram_cli.services import SERVICES
from tests.meta.checkout import ROOT
from tests.ops.metric_table import EXPORTED
from tests.ops.prometheus import Prometheus, prometheus
from tests.ops.promql import plain
from tests.support.servers import open_folder
from tests.support.wait import eventually

pytestmark = [
    pytest.mark.ops,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(170),
]
RULES = ROOT / "deploy/prometheus/alerts.yml"
# Further ports of operations are the next free ones after the first.
_NEAR = 40


@dataclass
class Live:
    """What runs, and since when."""

    scraped: Prometheus
    pages: dict[str, str]
    began: float


@contextlib.asynccontextmanager
async def up(folder, **env: str) -> AsyncIterator[dict[str, Any]]:
    """Run `engram up` and yield where everything is."""
    command = [sys.executable, "-m", "engram_cli", "up", "--json", "--port", "0", "--ops-port", "0"]
    process = await asyncio.create_subprocess_exec(
        *(*command, "--data", str(folder / "data")),
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        line = await process.stdout.readline()
        assert line, "engram up did not start"
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


async def operations(ops_url: str) -> dict[str, str]:
    """Return the address of each service's operations port."""
    first, found = int(ops_url.rpartition(":")[2]), {}
    async with httpx.AsyncClient(timeout=5) as client:
        for port in range(first, first + _NEAR):
            with contextlib.suppress(httpx.TransportError, ValueError, KeyError):
                name = (await client.get(f"http://127.0.0.1:{port}/healthz")).json()["service"]
                found.setdefault(name, f"127.0.0.1:{port}")
    assert set(found) == set(SERVICES)
    return found


async def work(client: httpx.AsyncClient, seconds: float) -> None:
    """Store, import, change, search, merge and undo for so many seconds."""
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        number += 1
        same = {"content": f"The client's order {number} was sent on Monday.", "user_id": "u"}
        again = {**same, "content": f"The client's order {number} was  sent on monday!"}
        for body in (same, again, {"content": f"fact {number}"}):
            assert (await client.post("/v1/memories", json=body)).is_success
        items = [{"content": f"imported {number}.{one}"} for one in range(20)]
        assert (await client.post("/v1/memories/import", json=items)).is_success
        query = {"query": f"order {number}", "filters": {"user_id": "u"}}
        assert (await client.post("/v1/memories/search", json=query)).is_success
        await asyncio.sleep(0.05)
    assert (await client.get("/v1/export")).is_success


async def sweep(client: httpx.AsyncClient) -> None:
    """Have every sweep run once."""
    for item in (await client.get("/v1/schedules")).json()["items"]:
        await client.post(f"/v1/schedules/{item['name']}/run")

    async def ran() -> bool:
        items = (await client.get("/v1/schedules")).json()["items"]
        return all(item["last_finished"] or item["name"] == "stock" for item in items)

    await eventually(ran, 40, 0.5)


async def moved(database_url: str) -> None:
    """Leave the record of a migration, as the migrator would."""
    sql = await asyncpg.connect(database_url, server_settings={"role": "engram_worker"})
    await sql.execute(
        "INSERT INTO engram.migration (id, source_space, phase, plan, target_key, progress, "
        "verdict) VALUES (gen_random_uuid(), 1, 'released', '{}', 'null:shake-1@64', "
        """'{"rows": 9, "missing": 0}', '{"mismatches": 0, "overlap": 0.99}')"""
    )
    await sql.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live() -> AsyncIterator[Live]:
    """Everything of this module looks at one run."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(open_folder("engram-test-ops-"))
        yield await _started(stack, folder)


async def _started(stack: contextlib.AsyncExitStack, folder) -> Live:
    fake = await stack.enter_async_context(fake_provider("--dimensions", 64))
    where = await stack.enter_async_context(
        up(
            folder,
            ENGRAM_EMBEDDING="openai:text-embedding-3-small@64",
            ENGRAM_OPENAI_BASE_URL=fake,
            ENGRAM_PROVIDER_RPM="100000",
            ENGRAM_PROVIDER_TPM="100000000",
        )
    )
    (folder / "prometheus").mkdir()
    ports = await operations(where["ops_url"])
    scraped = await stack.enter_async_context(
        prometheus(folder / "prometheus", list(ports.values()), RULES)
    )
    headers = {"Authorization": f"Bearer {where['api_key']}"}
    began = time.time()
    await moved(where["database_url"])
    async with httpx.AsyncClient(base_url=where["url"], headers=headers, timeout=30) as client:
        await asyncio.gather(work(client, 20), work(client, 20), sweep(client))
    await eventually(lambda: _read_after(scraped, began + 15), 60, 0.5)
    async with httpx.AsyncClient(timeout=10) as client:
        pages = {
            name: (await client.get(f"http://{address}/metrics")).text
            for name, address in ports.items()
        }
    return Live(scraped, pages, began)


async def _read_after(scraped: Prometheus, moment: float) -> bool:
    """Whether both tiers of stock were read after the load had begun to show."""
    found = await scraped.get("query", query="engram_stock_counted_timestamp_seconds")
    times = [float(one["value"][1]) for one in found["result"]]
    return len(times) == 2 and min(times) > moment


def dashboard_queries() -> dict[str, str]:
    found = {}
    for path in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                name = f"{path.stem}: {panel['title']} {target['refId']}"
                found[name] = target["expr"]
    return found


QUERIES = dashboard_queries()


@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_of_a_dashboard_returns_data(live, name):
    span = {"start": live.began, "end": time.time(), "step": 1}
    found = await live.scraped.get("query_range", query=plain(QUERIES[name]), **span)
    values = [float(v) for series in found["result"] for _, v in series["values"]]
    assert any(map(math.isfinite, values)), f"{QUERIES[name]}: {len(values)} values"


async def test_every_alert_is_evaluated_and_none_fires_in_health(live):
    groups = (await live.scraped.get("rules"))["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    written = yaml.safe_load(RULES.read_text())["groups"]
    assert set(rules) == {rule["alert"] for group in written for rule in group["rules"]}
    assert {name: rule["health"] for name, rule in rules.items()} == dict.fromkeys(rules, "ok")
    assert [name for name, rule in rules.items() if rule["state"] == "firing"] == []


async def test_promtool_finds_nothing_wrong_with_what_a_service_shows(live):
    for name, page in live.pages.items():
        done = await asyncio.to_thread(
            subprocess.run,
            ["promtool", "check", "metrics"],
            input=page,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name


async def test_every_metric_of_the_table_is_shown_by_a_running_service(live):
    shown = {
        family.name: {frozenset(sample.labels) - {"le"} for sample in family.samples}
        for page in live.pages.values()
        for family in text_string_to_metric_families(page)
        if family.samples
    }
    assert {
        name: labels in shown.get(name, ()) for name, labels in EXPORTED.items()
    } == dict.fromkeys(EXPORTED, True)


async def test_stock_is_shown_by_curators_only(live):
    shown = {name for name, page in live.pages.items() if "engram_outbox_lines" in page}
    assert shown == {"curator"}


async def test_no_series_names_a_tenant_or_an_id(live):
    for page in live.pages.values():
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                assert not {"workspace", "namespace", "id"} & set(sample.labels)
                assert not [v for v in sample.labels.values() if len(v) == 36 and v.count("-") == 4]
