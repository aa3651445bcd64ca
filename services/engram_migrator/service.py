"""The migrator service: one driver, which claims whatever migration has something to do."""

import contextlib
from collections.abc import AsyncIterator

from engram.serving.process import Service, background, run_service
from engram.settings import Settings
from engram_migrator.driver import Driver


async def run(settings: Settings) -> None:
    """Run the service until it is told to stop.

    Raises:
        EngramError: it cannot start; code, detail and cure say why.
    """
    await run_service("migrator", settings, _duties)


@contextlib.asynccontextmanager
async def _duties(service: Service) -> AsyncIterator[None]:
    async with background(Driver(service).run()):
        yield
