"""Bind the port of the service."""

import errno
import socket
import time

PORT_TIMEOUT = 2.0  # Seconds to wait until a service that is stopping releases the port.


class StartError(Exception):
    """The service cannot start. The message is one sentence."""

    exit_status = 1


def bind(host: str, port: int, count: int, *, prefix: str = "") -> list[socket.socket]:
    """Return ``count`` listening sockets, all on one port. The kernel balances connections.

    Retry for ``PORT_TIMEOUT`` seconds while the port is in use, then raise ``StartError``. The
    names of the settings begin with ``prefix``.
    """
    deadline = time.monotonic() + PORT_TIMEOUT
    while True:
        try:
            # First bind without SO_REUSEPORT, which would share the port with another program.
            _socket(host, port, shared=False).close()
            return [_socket(host, port, shared=count > 1) for _ in range(count)]
        except (socket.gaierror, UnicodeError):
            raise StartError(f"{prefix}HOST {host} is not an address of this machine.") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            reasons = {
                errno.EADDRINUSE: f"Port {port} is in use: stop that program, or set {prefix}PORT.",
                errno.EACCES: f"This user may not listen on port {port}: set {prefix}PORT.",
                errno.EADDRNOTAVAIL: f"{prefix}HOST {host} is not an address of this machine.",
            }
            reason = reasons.get(error.errno or 0, f"Cannot listen: {error.strerror}.")
            raise StartError(reason) from error


def _socket(host: str, port: int, *, shared: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        # Until a socket listens, another one with SO_REUSEADDR can bind the same port.
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock
