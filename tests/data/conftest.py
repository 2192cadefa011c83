"""Every test works in its own directory, with a cache of its own."""

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from torchvision import datasets

from nas.data.catalogue import DATASETS


@pytest.fixture(autouse=True)
def own_cache(
    own_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The user's folder of caches, empty."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dataset is to be downloaded from where nothing answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
    for name in (info.torchvision for info in DATASETS.values() if info.torchvision):
        cls = getattr(datasets, name)
        if hasattr(cls, "split_list"):
            parts = {part: [address, *rest] for part, (_, *rest) in cls.split_list.items()}
            monkeypatch.setattr(cls, "split_list", parts)
        elif hasattr(cls, "mirrors"):
            monkeypatch.setattr(cls, "mirrors", [address])
        else:
            monkeypatch.setattr(cls, "url", address)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a web server, and the folder that it serves."""
    root = tmp_path / "served"
    root.mkdir()

    def handler(*args: object) -> QuietHandler:
        return QuietHandler(*args, directory=str(root))  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", root
        server.shutdown()
        thread.join()
