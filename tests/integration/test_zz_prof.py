import asyncio, json, time, sys
import pytest
from tests.support.store import open_store
from engram_cli.bench.workload import memories
from engram.events import encode_json
from engram.serving.process import _calm_collector
import engram_ingest.import_runner as R
import engram_ingest.import_work as W
import engram_ingest.import_parsing as P

@pytest.fixture
async def store(database_url, superuser_url, nats_url):
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        runner=opened.app.state.doors.runner
        opened.real=runner.work_once
        async def nothing(): return False
        runner.work_once = nothing
        yield opened

async def test_prof(store, monkeypatch):
    _calm_collector()
    n=40000
    t={"store":0.0,"storecpu":0.0}
    orig=W.Work.store
    async def timed(self,b):
        w=time.perf_counter(); c=time.thread_time()
        await orig(self,b)
        t["store"]+=time.perf_counter()-w; t["storecpu"]+=time.thread_time()-c
    monkeypatch.setattr(W.Work,"store",timed)
    for k,th in enumerate((1,10**9,1,10**9)):
        monkeypatch.setattr(P,"_WORTH_A_PROCESS_BYTES",th)
        t.update(store=0.0,storecpu=0.0)
        body=b"".join(encode_json({"content":m.content,"user_id":m.user,"metadata":m.metadata})+b"\n" for m in memories(n, start=k*n))
        a=await store.client.post("/v1/memories/import", content=body)
        c=time.process_time(); w=time.perf_counter()
        await store.real()
        print("child" if th==1 else "thread", "cpu us/item", (time.process_time()-c)/n*1e6, "wall", (time.perf_counter()-w)/n*1e6, {k:v/n*1e6 for k,v in t.items()})
