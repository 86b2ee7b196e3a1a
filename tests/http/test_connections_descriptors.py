"""Test more connections than the process has file descriptors."""

import contextlib
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.processes import RUN, Process, needs_proc, read_response, serve

pytestmark = needs_proc

SERVE = (*RUN, "serve")
LIMITED = (
    "import os, resource, sys; soft, hard = map(int, sys.argv[1:3]);"
    "resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)); os.execv(sys.argv[3], sys.argv[3:])"
)
HARD = 256
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
SENT = {"nothing": b"", "half a head": HEALTH[:20], "a request": HEALTH}


def serve_limited(folder: Path, soft: int, hard: int) -> Process:
    """Return the service, started with these limits of file descriptors."""
    return serve(folder, command=(sys.executable, "-c", LIMITED, str(soft), str(hard), *SERVE))


@contextlib.contextmanager
def flood(service: Process, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Open ``count`` connections, send ``sent`` on each, and keep them open."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", service.port), 20)
            sockets.append(stack.enter_context(sock))
            sock.sendall(sent)
            if sent == HEALTH:
                assert sock.recv(65_536).startswith(b"HTTP/1.1 200 OK")
        yield sockets


def test_new_client_is_served_when_there_are_more_idle_connections_than_descriptors(
    tmp_path: Path,
) -> None:
    with serve_limited(tmp_path, HARD, HARD) as service:
        service.wait_until_serving()
        with service.connection() as busy:
            busy.putrequest("POST", "/api/users")
            busy.putheader("Content-Length", "2")
            busy.endheaders(b"{")
            for name, sent in SENT.items():
                with flood(service, HARD * 2, sent) as sockets:
                    statuses = [service.request("GET", "/health")[0] for _ in range(20)]
                    assert statuses == [200] * 20, name
                    assert sockets[0].recv(65_536) == b""  # The longest idle.
                    sockets[-1].sendall(HEALTH[len(sent) % len(HEALTH) :])
                    assert sockets[-1].recv(65_536).startswith(b"HTTP/1.1 200 OK")
                if name == "nothing":
                    assert service.out.count("too many connections") == 1
            busy.send(b"}")
            assert read_response(busy)[0] == 400


def test_soft_limit_of_descriptors_is_raised_to_the_hard_limit(tmp_path: Path) -> None:
    with serve_limited(tmp_path, 64, 1024) as service:
        service.wait_until_serving()
        (worker,) = service.workers()
        assert resource.prlimit(worker, resource.RLIMIT_NOFILE) == (1024, 1024)
        with flood(service, 200, HEALTH) as sockets:
            for sock in sockets:
                sock.sendall(HEALTH)
                assert sock.recv(65_536).startswith(b"HTTP/1.1 200 OK")
