# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proxy by which BTCPay Server asks others: SOCKS5 (RFC 1928), as that of tor behind it, for some hosts alone.

BTCPay Server has one proxy for all that it asks of the world, whoever told it to. What the inventory does not name is
refused here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import sys
from collections.abc import Collection

_GREETING = b"\x05\x01\x00"  # a client without a password
_ADDRESS, _NAME = 1, 3
# The codes of RFC 1928.
_FAILED, _NOT_ALLOWED = 1, 2
_PATIENCE = 120.0  # seconds for a connection; tor itself gives up after that


class RefusedError(Exception):
    """What the client is not given."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """What a client asks for, and the host in it. Raises RefusedError, and EOFError."""
    head = await reader.readexactly(4)
    if head[:2] != b"\x05\x01" or head[3] not in (_ADDRESS, _NAME):
        raise RefusedError(_FAILED, f"not a connection to a name or an IPv4 address: {head.hex()}")
    size = b"" if head[3] == _ADDRESS else await reader.readexactly(1)
    name = await reader.readexactly(size[0] if size else 4)
    host = name.decode("ascii", "replace").lower() if size else str(ipaddress.IPv4Address(name))
    return head + size + name + await reader.readexactly(2), host


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what one side says, until it has said all."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()  # the other side would wait for more


class Proxy:
    """It asks another proxy, at an address and a port, for some hosts."""

    def __init__(self, address: str, port: int, hosts: Collection[str]) -> None:
        self._place = (address, port)
        self._hosts = frozenset(hosts)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            version, count = await reader.readexactly(2)
            methods = await reader.readexactly(count)
            if version != _GREETING[0] or 0 not in methods:
                return
            writer.write(b"\x05\x00")
            try:
                request, host = await read_request(reader)
                if host not in self._hosts:
                    raise RefusedError(_NOT_ALLOWED, f"{host} is in neither btcpayserver_rates nor _webhooks")
                far = await asyncio.wait_for(self._reach(request), _PATIENCE)
            except RefusedError as refused:
                sys.stderr.write(f"refused: {refused}\n")
                writer.write(bytes([5, refused.code]) + b"\x00\x01" + bytes(6))
                await writer.drain()
                return
            with contextlib.closing(far[1]):
                await asyncio.gather(carry(reader, far[1]), carry(far[0], writer))

    async def _reach(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The other proxy, which has the request; its answer is the client's. Raises RefusedError."""
        try:
            reader, writer = await asyncio.open_connection(*self._place)
            writer.write(_GREETING)
            if await reader.readexactly(2) != b"\x05\x00":
                raise RefusedError(_FAILED, "tor wants a password")
            writer.write(request)
        except (OSError, EOFError) as error:
            raise RefusedError(_FAILED, f"tor does not answer: {error}") from error
        return reader, writer


async def main(listen: str, proxy: str, *hosts: str) -> None:
    (address, port), (own, own_port) = proxy.split(":"), listen.split(":")
    server = await asyncio.start_server(Proxy(address, int(port), hosts).serve, own, int(own_port))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
