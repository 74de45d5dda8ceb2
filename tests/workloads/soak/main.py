"""A server that accounts for itself: it writes a line for each request that it answers, before it does.

/short/ID answers with the ID, a POST to it with the length of what came as well; /stream/ID/COUNT/MS sends COUNT lines,
MS apart; /socket/ID is a WebSocket that sends back what comes. Every answer names the revision.
"""

import asyncio
import base64
import hashlib
import os

REVISION = os.environ["K_REVISION"]


def served(identity):
    print("served", identity, flush=True)


async def short(reader, writer, headers, identity):
    length = int(headers.get("content-length", "0"))
    body = await reader.readexactly(length)
    served(identity)
    answer = f"{identity} {len(body)} {REVISION}".encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))


async def stream(writer, identity, count, pause):
    served(identity)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(count):
        line = f"{identity} {number} {REVISION}\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        await writer.drain()
        await asyncio.sleep(pause / 1000)
    writer.write(b"0\r\n\r\n")


async def sockets(reader, writer, headers, identity):
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest())
    served(identity)
    writer.write(b"HTTP/1.1 101 So\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n" % accept)
    while True:
        kind, length = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(length & 0x7F)))
        # A frame for a frame, the closing one too; all are short.
        writer.write(bytes([kind, len(text)]) + text)
        await writer.drain()
        if kind & 0xF == 8:
            return


async def serve(reader, writer):
    try:
        while True:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
            _, what, identity, *more = first.split(" ")[1].split("/")
            if what == "socket":
                return await sockets(reader, writer, headers, identity)
            if what == "stream":
                await stream(writer, identity, *map(int, more))
            else:
                await short(reader, writer, headers, identity)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", int(os.environ["PORT"]))
    await server.serve_forever()


asyncio.run(main())
