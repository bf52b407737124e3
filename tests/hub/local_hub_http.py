"""How the local Hub speaks HTTP, and how it goes wrong on demand."""

import http.server
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.local_hub_store import HubError

if TYPE_CHECKING:
    from tests.hub.local_hub import HubServer, LocalHub

BLOCK = 1 << 16  # bytes

MESSAGES = {  # what the Hub says with a status
    401: "Invalid credentials in Authorization header",  # at any other message the client says "repository not found"
    429: "Too many requests",
    500: "Internal Error - We're working hard to fix this as soon as possible!",
    503: "Service Unavailable",
}


@dataclass
class Request:
    """A request as it came. `path` is decoded and without its query, `range` is the header."""

    method: str
    path: str
    range: str | None = None
    status: int | None = None  # None if the connection was closed before an answer


@dataclass
class Fault:
    """What goes wrong with the next `times` requests to a path; None stands for all of them."""

    kind: str  # "fail", "cut" or "corrupt"
    path: re.Pattern[str]
    method: str | None
    times: int | None
    error: HubError | None = None
    after_bytes: int = 0


class Faults:
    """The faults that were asked for. A request meets the first of its kind that is not used up."""

    def __init__(self) -> None:
        self.planned: list[Fault] = []
        self.lock = threading.Lock()

    def add(self, kind: str, path: str, method: str | None, times: int | None, **details) -> None:
        with self.lock:
            self.planned.append(Fault(kind, re.compile(path), method, times, **details))

    def take(self, kind: str, request: Request) -> Fault | None:
        with self.lock:
            for fault in self.planned:
                applies = fault.kind == kind and fault.method in (None, request.method) and fault.times != 0
                if applies and fault.path.search(request.path):
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None

    def clear(self) -> None:
        with self.lock:
            self.planned.clear()


class CutError(Exception):
    """The connection is to be closed here, in the middle of what it carries."""


class Connection(http.server.BaseHTTPRequestHandler):
    """Reads the requests of one connection and meets their faults; `route` in a subclass answers them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets: the second would wait for an acknowledgement
    server: "HubServer"

    @property
    def hub(self) -> "LocalHub":
        return self.server.hub

    def handle_request(self) -> None:
        self.address = urlsplit(self.path)  # still percent-encoded
        self.query = {key: values[-1] for key, values in parse_qs(self.address.query).items()}
        self.asked = Request(self.command, unquote(self.address.path), self.headers.get("Range"))
        self.hub.requests.append(self.asked)
        try:
            with tempfile.SpooledTemporaryFile(max_size=1 << 24) as self.body:
                self.read_body()
                try:
                    fault = self.hub.faults.take("fail", self.asked)
                    if fault and fault.error:
                        raise fault.error
                    self.route()
                except HubError as error:
                    self.answer(error.body, error.status, error.headers)
        except (CutError, ConnectionError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request  # noqa: N815 - the names http.server calls

    def read_body(self) -> None:
        """Read the body whatever the answer will be: what is left of it would be taken for the next request."""
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        length = int(self.headers.get("Content-Length", 0))
        if not (chunked or length):
            return
        fault = self.hub.faults.take("cut", self.asked)
        for block in self.read_chunks() if chunked else self.read_blocks(length):
            self.body.write(block)
            if fault and self.body.tell() >= fault.after_bytes:
                break
        if fault:
            raise CutError
        self.body.seek(0)

    def read_blocks(self, length: int) -> Iterator[bytes]:
        while length > 0:
            block = self.rfile.read(min(length, BLOCK))
            if not block:
                raise ConnectionResetError("the client has gone")
            length -= len(block)
            yield block

    def read_chunks(self) -> Iterator[bytes]:
        while length := int(self.rfile.readline().split(b";")[0], 16):
            yield from self.read_blocks(length)
            self.rfile.readline()
        self.rfile.readline()

    def route(self) -> None:
        raise NotImplementedError

    def answer(self, content: dict | list | bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "text/plain" if isinstance(content, bytes) else "application/json"
        self.send_head(status, {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_head(self, status: int, headers: dict[str, str]) -> None:
        self.asked.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args) -> None:
        """Say nothing: `hub.requests` has it all."""

    def json(self) -> dict:
        return json.loads(self.body.read() or b"{}")
