"""An HTTP server on a socket that answers what a test scripted, and keeps what it was asked."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DROP = "drop"  # close the connection without an answer


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Stub:
    """``answers`` come in turn, the last for ever; each is DROP or (status, body, headers)."""

    answers: list[Any] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def script(self, *answers: Any) -> None:
        self.answers[:] = answers

    def answer(self, asked: Asked) -> Any:  # noqa: ARG002 - what a test puts in place reads it
        """Answer the next request; a test may put its own in place."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def problem(status: int, code: str, **more: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    """An ``application/problem+json`` answer."""
    headers = {"Content-Type": "application/problem+json"}
    return status, {"title": "T", "status": status, "detail": "D.", "code": code, **more}, headers


@contextlib.contextmanager
def serving() -> Iterator[Stub]:
    """Run the stub on a free loopback port."""
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            stub.asked.append(asked)
            answer = stub.answer(asked)
            if answer == DROP:
                self.close_connection = True
                return
            status, content, *more = answer
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {
                "Content-Length": str(len(data)),
                **(more[0] if more else {}),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the base class asks for these names

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
