"""Open many connections to a registry, and on each of them begin an upload that hardly gets on.

    python -m tests.cluster.support.slow_uploads HOST CA_FILE CONNECTIONS SECONDS

LOGIN in the environment holds the credentials, as HTTP's Basic has them. Prints how many are open, holds them for that
time with a byte each second, and ends: bounded in number and time.
"""

import asyncio
import os
import resource
import ssl
import sys


async def upload(host: str, context: ssl.SSLContext, turn: asyncio.Semaphore, opened: asyncio.Queue[bool]) -> None:
    """Send the head of a manifest of a megabyte, then a byte a second until it is cancelled or cut off."""
    async with turn:  # a TLS handshake costs time; all of them at once would only measure this machine
        name, _, port = host.partition(":")
        _, writer = await asyncio.open_connection(name, int(port or 443), ssl=context)
        head = (
            f"PUT /v2/slow/upload/manifests/1 HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Basic {os.environ['LOGIN']}\r\nContent-Length: 1000000\r\n\r\n"
        )
        writer.write(head.encode())
        await writer.drain()
    opened.put_nowait(True)
    try:
        while not writer.transport.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(1)
    except OSError:
        pass
    finally:
        writer.transport.abort()


async def main(host: str, ca_file: str, connections: int, seconds: float) -> None:
    """Open the connections, say so, hold them and close them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (connections + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    context = ssl.create_default_context(cafile=ca_file)
    turn, opened = asyncio.Semaphore(50), asyncio.Queue[bool]()
    uploads = [asyncio.create_task(upload(host, context, turn, opened)) for _ in range(connections)]
    for _ in uploads:
        await asyncio.wait_for(opened.get(), 60)
    print(connections, flush=True)
    await asyncio.sleep(seconds)
    for task in uploads:
        task.cancel()
    await asyncio.gather(*uploads, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
