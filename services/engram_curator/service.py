"""The curator service: the sweeps of the table, each a file of its own."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

from engram.serving.process import Service, background, run_service
from engram.settings import Settings
from engram.storage import migration_leases
from engram_curator.decay import Watch, decay, decay_on_request, see_clock
from engram_curator.dedup import begin_due, work
from engram_curator.expiry import expire
from engram_curator.indexing import Seen, sweep_indexes
from engram_curator.reconcile import Looked, reconcile
from engram_curator.schedule import Duty, run_schedule
from engram_curator.stock import export


def duties() -> dict[str, Duty]:
    """Return every sweep by its name in the table."""
    seen, looked, watch = Seen(), Looked(), Watch()

    async def hold_against(service: Service) -> None:
        await reconcile(service, looked)

    async def index(service: Service) -> None:
        async with service.pool.acquire() as connection:
            loading = await migration_leases.loading(connection)
        # An index that grows with a load costs four times what one built after it does, and sizes
        # counted in a space that is half full are no sizes.
        spaces = {k: v for k, v in service.spaces.dimensions.items() if k not in loading}
        await sweep_indexes(service.pool, spaces, seen)

    return {
        "reconcile": Duty(timedelta(minutes=5), hold_against),
        "index": Duty(timedelta(seconds=15), index),
        "expiry": Duty(timedelta(hours=1), expire),
        "dedup": Duty(timedelta(days=1), begin_due),
        "decay": Duty(timedelta(days=1), partial(decay, watch=watch)),
        "decay-runs": Duty(timedelta(hours=1), partial(decay_on_request, watch=watch)),
        "decay-clock": Duty(timedelta(minutes=10), partial(see_clock, watch=watch)),
    }


async def run(settings: Settings) -> None:
    """Run the service until it is told to stop.

    Raises:
        EngramError: it cannot start; code, detail and cure say why.
    """
    await run_service("curator", settings, _duties)


@contextlib.asynccontextmanager
async def _duties(service: Service) -> AsyncIterator[None]:
    async with background(run_schedule(service, duties()), work(service), export(service)):
        yield
