"""An echo pod that compresses messages (RFC 7692): the port is the argument."""

import sys

from aiohttp import WSMsgType, web


async def echo(request):
    socket = web.WebSocketResponse(max_msg_size=64 << 20)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


pod = web.Application()
pod.router.add_get("/{path:.*}", echo)
web.run_app(pod, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
