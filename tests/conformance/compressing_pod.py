"""An echo pod that compresses messages (RFC 7692): the port is the argument."""

import asyncio
import logging
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# Most cases break the protocol, each for a page of log.
logging.getLogger("websockets").setLevel(logging.CRITICAL)


async def echo(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosed:
        pass


async def main(port):
    async with serve(echo, "127.0.0.1", port, max_size=64 << 20) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
