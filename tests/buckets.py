"""A server of buckets on this machine, which counts requests, for tests and benchmarks.

moto plays S3; in front of it stands a count of what is asked for.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

# What no file and no line that dkde writes may hold.
SECRET = "a-secret-that-nobody-may-see"
KEY_ID = "AKIDOFTESTS"
BUCKET = "bucket"


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as a real server keeps them

    def log_request(self, *arguments: Any) -> None:
        pass


class Server:
    """Counts of requests, by method and path; a listing's path is that of the bucket.

    Of writing requests, those that were done: what is counted is there.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.requests: Counter[tuple[str, str]] = Counter()
        # Whether the answer to a request is lost, by its method and path: see `bucket_faults`.
        self.loses: Callable[[str, str], bool] | None = None

    def environment(self) -> dict[str, str]:
        """What leads clients here, credentials included."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def count(self, method: str, part: str = "") -> int:
        """Requests of a method since the last `clear`, of paths that hold a part."""
        return sum(n for (m, path), n in self.requests.items() if m == method and part in path)

    def clear(self) -> None:
        self.requests.clear()


@contextmanager
def serving() -> Iterator[Server]:
    """A server with one empty bucket."""
    server = Server("")
    backend = DomainDispatcherApplication(create_backend_app)

    def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if server.loses is not None and server.loses(method, path):
            list(backend(environ, lambda *_: lambda _: None))
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []
        if method != "PUT":
            server.requests[method, path] += 1
            return backend(environ, start_response)

        def stored(status: str, *rest: Any) -> Any:
            server.requests[method, path] += status.startswith("2")
            return start_response(status, *rest)

        return backend(environ, stored)

    http = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=_Quiet)
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        make_bucket(server)
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def make_bucket(server: Server, name: str = BUCKET) -> None:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=server.address, aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET, region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket=name)
    client.close()
