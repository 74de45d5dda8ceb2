"""What a URL answers to aiohttp, which heeds no proxy unless it is told to: python aio.py URL."""

import asyncio
import sys

import aiohttp


async def main():
    async with aiohttp.ClientSession() as session, session.get(sys.argv[1]) as answer:
        print(await answer.text())


asyncio.run(main())
