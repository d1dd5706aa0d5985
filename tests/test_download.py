"""Downloads from a local server that can cut its answers short."""

import hashlib
import http.server
import threading
import zipfile

import pytest
from conftest import run_python

from cyclegan_tf.data import download
from cyclegan_tf.data.sources import DEMO_MAPS_DIR
from cyclegan_tf.errors import UserError

CONTENT = bytes(range(256)) * 4000


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`, at most `cut` bytes per answer. `ranges` records the Range headers of the requests."""

    def __init__(self, content, cut=None, resumes=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.resumes, self.ranges = content, cut, resumes, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.resumes else 0
        if first >= len(self.server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.server.content)}")
            self.end_headers()
            return
        rest = self.server.content[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*arguments, **options):
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_download_resumes_where_the_connection_ended(serve, tmp_path):
    server = serve(CONTENT, cut=400_000)
    download.download(server.url("a.zip"), str(tmp_path / "new" / "a.zip"))
    assert (tmp_path / "new" / "a.zip").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=400000-", "bytes=800000-"]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.zip"]


def test_failed_download_keeps_the_part(serve, tmp_path):
    path, server = str(tmp_path / "a.zip"), serve(CONTENT, cut=300_000)
    with pytest.raises(UserError, match=r"a\.zip failed: the connection ended early; .* resume from .*a\.zip\.part"):
        download.download(server.url("a.zip"), path)
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:900_000]
    download.download(server.url("a.zip"), path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_download_restarts_if_the_server_ignores_ranges(serve, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"old")
    download.download(serve(CONTENT, resumes=False).url("a.zip"), str(tmp_path / "a.zip"))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_complete_part_is_not_downloaded_again(serve, tmp_path):
    server = serve(CONTENT)
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    download.download(server.url("a.zip"), str(tmp_path / "a.zip"))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]
    assert not (tmp_path / "a.zip.part").exists()


def test_part_longer_than_the_file_is_discarded(serve, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT * 2)
    download.download(serve(CONTENT).url("a.zip"), str(tmp_path / "a.zip"))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


# The command, with the URL and the checksum of the genuine archive replaced. Everything else is TFDS's own.
CHILD = """
import sys
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums
url, size, digest = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1)
infos = dict(tfds.builder("cycle_gan/horse2zebra").url_infos)
known = next(known for known in infos if known.endswith("/horse2zebra.zip"))
info = checksums.UrlInfo(size=size, checksum=digest, filename="horse2zebra.zip")
tfds.builder_cls("cycle_gan").url_infos = {url: info, known: info}
from cyclegan_tf import cli
cli.datasets()
"""


def test_prepare_downloads_verifies_and_prepares(serve, tmp_path):
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for split, count in (("trainA", 4), ("trainB", 3), ("testA", 1), ("testB", 2)):
            for file in sorted((DEMO_MAPS_DIR / split).iterdir())[:count]:
                archive.write(file, f"horse2zebra/{split}/{file.name}")
    data = path.read_bytes()
    server = serve(data, cut=len(data) * 2 // 3)

    def prepare(digest, folder):
        return run_python(
            "-c", CHILD, server.url("horse2zebra.zip"), len(data), digest, "prepare", "horse2zebra",
            f"--data_dir={tmp_path / folder}",
        )

    child = prepare(hashlib.sha256(data).hexdigest(), "good")
    assert child.returncode == 0, child.stderr
    assert "4 in trainA, 3 in trainB, 1 in testA, 2 in testB images" in child.stdout
    assert server.ranges == [None, f"bytes={server.cut}-"]
    child = prepare("0" * 64, "wrong")
    assert child.returncode == 2
    assert "horse2zebra.zip is not the archive that TFDS expects" in child.stderr
    assert not (tmp_path / "wrong" / "horse2zebra.zip").exists()
