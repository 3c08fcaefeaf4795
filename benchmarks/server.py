"""How a search server treats honest clients while others misuse it.

Start a server (`math-hash serve INDEX --model RUN`), then

    python benchmarks/server.py --url http://127.0.0.1:8000

Clients search by text and by picture, first alone, then beside silent connections that never finish a header, requests
whose client leaves at once, and pictures that would take much memory. A refusal (503) is repeated, as it asks to be,
and the waiting counts.
"""

import argparse
import io
import json
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import numpy as np
from PIL import Image

TEXTS = ("a dog on the beach", "two people at night", "a red flower", "clouds over the sea")


def picture(side: int, mode: str = "RGB") -> bytes:
    """A PNG of one color."""
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, "png")
    return buffer.getvalue()


class Misuse:
    """Silent connections, abandoned requests and large pictures, until it is closed."""

    def __init__(self, url: httpx.URL, silent: int, abandoned: int):
        self.address, self.url, self.ends = (url.host, url.port or 80), str(url), threading.Event()
        self.threads = [
            threading.Thread(target=self.be_silent, args=(silent,)),
            threading.Thread(target=self.abandon, args=(abandoned,)),
            threading.Thread(target=self.send_bombs),
        ]

    def __enter__(self) -> "Misuse":
        for thread in self.threads:
            thread.start()
        time.sleep(1)
        return self

    def __exit__(self, *error: object) -> None:
        self.ends.set()
        for thread in self.threads:
            thread.join()

    def be_silent(self, number: int) -> None:
        """Keep `number` connections open that sent half a header; open those anew that the server closes."""
        held: list[socket.socket] = []
        while not self.ends.wait(0.2):
            for connection in list(held):
                connection.setblocking(False)
                with suppress(BlockingIOError):
                    try:
                        closed = not connection.recv(1)
                    except ConnectionError:
                        closed = True
                    if closed:
                        connection.close()
                        held.remove(connection)
            while len(held) < number and not self.ends.is_set():
                with suppress(OSError):
                    connection = socket.create_connection(self.address, timeout=5)
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
                    held.append(connection)
        for connection in held:
            connection.close()

    def abandon(self, number: int) -> None:
        """Send `number` searches per second and leave at once."""
        body = json.dumps({"text": TEXTS[0]}).encode()
        head = "POST /search/text HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        while not self.ends.wait(1 / number):
            with suppress(OSError), socket.create_connection(self.address, timeout=5) as connection:
                connection.sendall(head.encode() + body)

    def send_bombs(self) -> None:
        """Send pictures of 400 million pixels in few bytes."""
        Image.MAX_IMAGE_PIXELS = None
        bomb = picture(20_000, "1")
        while not self.ends.wait(0.5):
            with suppress(httpx.HTTPError):
                httpx.post(f"{self.url}/search/image", files={"file": bomb}, timeout=30)


def honest_client(url: str, requests: int) -> tuple[list[float], Counter[int]]:
    """Seconds of each search, and the statuses of all answers."""
    seconds, statuses = [], Counter[int]()
    upload = picture(300)
    with httpx.Client(base_url=url, timeout=60) as client:
        for place in range(requests):
            start = time.perf_counter()
            for _ in range(100):
                if place % 4 == 3:
                    answer = client.post("/search/image", files={"file": upload})
                else:
                    answer = client.post("/search/text", json={"text": TEXTS[place % len(TEXTS)]})
                statuses[answer.status_code] += 1
                if answer.status_code != 503:
                    break
                time.sleep(0.2)
            seconds.append(time.perf_counter() - start)
    return seconds, statuses


def measure(name: str, url: str, clients: int, requests: int) -> None:
    """Print percentiles of the honest clients' waiting."""
    with ThreadPoolExecutor(clients) as pool:
        results = list(pool.map(lambda _: honest_client(url, requests), range(clients)))
    seconds = np.array([second for result in results for second in result[0]])
    statuses = sum((result[1] for result in results), Counter[int]())
    shares = "  ".join(f"p{share} {1000 * np.percentile(seconds, share):.0f} ms" for share in (50, 95, 100))
    print(f"{name:<14} {clients} clients, {len(seconds)} searches: {shares}  statuses {dict(statuses)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (http://127.0.0.1:8000)")
    parser.add_argument("--clients", type=int, default=8, help="honest clients at the same time (8)")
    parser.add_argument("--requests", type=int, default=25, help="searches of each (25)")
    parser.add_argument("--silent", type=int, default=400, help="connections that never finish a header (400)")
    parser.add_argument("--abandoned", type=int, default=40, help="requests per second whose client leaves (40)")
    flags = parser.parse_args()
    measure("alone", flags.url, flags.clients, flags.requests)
    with Misuse(httpx.URL(flags.url), flags.silent, flags.abandoned):
        measure("beside misuse", flags.url, flags.clients, flags.requests)


if __name__ == "__main__":
    main()
