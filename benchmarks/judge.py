"""The judge's runner against a server that replies at once: requests a second, and memory.

    python benchmarks/judge.py --items 20000

The server is a process of its own that does as little as HTTP allows, so the figure is the runner's
own limit: asking, reading, keeping. A second pass takes every verdict from the store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drenpa.config import JudgeConfig
from drenpa.core.records import Record
from drenpa.core.store import Store
from drenpa.judge.answers import Answer
from drenpa.judge.bench import judge_answers
from drenpa.judge.endpoint import EndpointJudge

SCORES = {"relevance": 2, "safety": 2, "quality": 1, "satisfaction": 1, "richness": 0}
CONTENT = json.dumps({"thoughts": "Right, and to the point. " * 8} | SCORES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        asyncio.run(serve())
        return
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            measure(f"http://127.0.0.1:{port}/v1", chosen.items, chosen.concurrency)
        finally:
            server.kill()


def measure(url: str, count: int, concurrency: int) -> None:
    """Judge `count` answers of about 1,000 characters, then all of them again."""
    config = JudgeConfig(
        name="openai", model="m", base_url=url, key_env="NO_KEY", concurrency=concurrency
    )
    items = [
        Record(id=f"i{n}", kind="foundation", question=f"What of {n}?", split="test")
        for n in range(count)
    ]
    answers = [Answer(item.id, 0, f"{item.id} is so. " * 60, "stop") for item in items]
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.sqlite") as store:
        judge = EndpointJudge(config, store=store)
        judge_answers(items[:50], answers[:50], judge, store=store)
        for name in ("asked", "from the store"):
            before, cpu, began = peak_mb(), time.process_time(), time.perf_counter()
            opinions = judge_answers(items, answers, judge, store=store)
            seconds, used = time.perf_counter() - began, time.process_time() - cpu
            assert all(opinion.scores == SCORES for opinion in opinions)
            print(
                f"{name:15} {count} verdicts in {seconds:.1f} s ({used:.1f} s of processor), "
                f"{count / seconds:.0f} a second; peak {peak_mb():.0f} MB, "
                f"{peak_mb() - before:.0f} more than before"
            )
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        print(f"store {size / 1e6:.1f} MB")


async def serve() -> None:
    """Reply to every request with the same verdict."""
    message = {"role": "assistant", "content": CONTENT}
    body = json.dumps(
        {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    ).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reply = head.encode() + body

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                fields = request.lower().split(b"content-length:")[1]
                await reader.readexactly(int(fields.split(b"\r\n")[0]))
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def peak_mb() -> float:
    """The most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
