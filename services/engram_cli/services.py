"""The services by name: what runs in each, and how ``engram up`` starts them as children."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from engram.errors import UsageError

if TYPE_CHECKING:
    from engram_cli.runtime.service import ServiceSpec
    from engram_cli.runtime.up import Endpoints

# The first one serves HTTP; `engram up` starts them in this order.
SERVICES: Final[Mapping[str, str]] = {
    "ingest": "engram_ingest.service:run",
    "embedder": "engram_embedder.service:run",
    "curator": "engram_curator.service:run",
    "migrator": "engram_migrator.service:run",
}

ServiceMain = Callable[[Any], Awaitable[None]]


def load_service(name: str) -> ServiceMain:
    """Return the coroutine function of a service; its package is imported only now.

    Raises:
        UsageError: there is no such service.
    """
    if name not in SERVICES:
        close = difflib.get_close_matches(name, SERVICES, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Services: {', '.join(SERVICES)}."
        raise UsageError("unknown_service", f"There is no service {name!r}.", cure=hint)
    module, _, function = SERVICES[name].partition(":")
    main: ServiceMain = getattr(importlib.import_module(module), function)
    return main


def child_specs(endpoints: Endpoints) -> list[ServiceSpec]:
    """Return every service as a child of ``engram up``, each with an operations port of its own."""
    from engram_cli.runtime.ports import HOST
    from engram_cli.runtime.service import ServiceSpec

    specs = []
    for number, name in enumerate(SERVICES):
        # Neighbouring ports are the same at each start, so a Prometheus target can be written down.
        ops_port = endpoints.ops_port
        if number:
            ops_port = endpoints.ports.keep_near(ops_port + number)
        specs.append(
            ServiceSpec(
                name=name,
                argv=(sys.executable, "-m", "engram_cli", "run", name),
                env={
                    "ENGRAM_PORT": str(endpoints.http_port),
                    "ENGRAM_OPS_PORT": str(ops_port),
                },
                ready_url=f"http://{HOST}:{ops_port}/readyz",
            )
        )
    return specs
