"""The local model's process: reads lists of texts from stdin, writes vectors to stdout.

A frame is a big-endian 4-byte length and that many bytes. A request is a JSON list of texts. A
reply is a JSON object ``{"count", "tokens"}`` and then a frame of count x 384 native float32; or
``{"error"}`` and nothing. No pickle crosses the pipe. It ends when stdin ends, and so it cannot
outlive its parent.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from typing import BinaryIO

from engram.embedding.minilm_model import MiniLM, model_directory


def main() -> None:
    """Serve until stdin ends."""
    # Ctrl-C reaches the whole process group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = _claim_stdout()
    model = MiniLM(model_directory())
    while (request := _read_frame(sys.stdin.buffer)) is not None:
        try:
            vectors, tokens = model.embed(json.loads(request))
        except Exception as error:  # noqa: BLE001 - one bad call must not cost the model its process
            _write_frame(replies, json.dumps({"error": type(error).__name__}).encode())
            continue
        _write_frame(replies, json.dumps({"count": len(vectors), "tokens": tokens}).encode())
        _write_frame(replies, vectors.tobytes())


def _claim_stdout() -> BinaryIO:
    """Keep the pipe for replies, and send whatever a library prints to stderr."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _read_frame(stream: BinaryIO) -> bytes | None:
    header = stream.read(4)
    if len(header) < 4:
        return None
    (size,) = struct.unpack(">I", header)
    body = stream.read(size)
    return body if len(body) == size else None


def _write_frame(stream: BinaryIO, body: bytes) -> None:
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


if __name__ == "__main__":
    main()
