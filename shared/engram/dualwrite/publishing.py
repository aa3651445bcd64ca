"""``MirrorPublisher``: a publisher that knows which of its commands the service has done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nats.errors
import nats.js.errors
from nats.js.api import PubAck

from engram.publisher import Command, Publisher, meaning_of


class MirrorPublisher(Publisher):
    """A publisher that can delete by external id, and can say what has been done."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._places: dict[str, tuple[str, int]] = {}

    async def delete_named(
        self, source: str, external_ids: Sequence[str], *, event_id: str | None = None
    ) -> list[str]:
        """Publish the deletion of memories by their own names, known to engram yet or not.

        Raises:
            EngramError: as ``create``.
        """
        named = [{"source": source, "external_id": one, "remember": True} for one in external_ids]
        return await self._publish("delete", named, event_id, 1)

    async def taken(self, event_id: str) -> bool:
        """Say whether a command of this publisher has left the stream, so that it is done.

        The stream is a work queue: a command is gone from it once the service has committed it.

        Raises:
            UnavailableError: no server answered, or the credential may not read the stream.
        """
        place = self._places.get(event_id)
        if place is None:
            return True
        try:
            await self._connected().jetstream(timeout=self._timeout_s).get_msg(*place)
        except nats.js.errors.NotFoundError:
            self._places.pop(event_id, None)
            return True
        except (nats.errors.Error, OSError) as error:
            raise meaning_of(error) from error
        return False

    def _acknowledged(self, command: Command, answer: PubAck) -> None:
        self._places[command.event_id] = (answer.stream, answer.seq)
