"""A real TensorBoard serves the events of a run."""

import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest

from cyclegan_tf.images.codec import decode
from cyclegan_tf.runs.metrics_log import read_records


@pytest.fixture
def board(tiny_run):
    """Function that requests a path from a local TensorBoard and returns the body of the response."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # With --load_fast=false, TensorBoard reads the events before it responds.
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", f"--logdir={tiny_run}", f"--port={port}", "--host=127.0.0.1",
         "--load_fast=false"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )

    def ask(path, **query):
        url = f"http://127.0.0.1:{port}/data/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read()

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if json.loads(ask("plugin/scalars/tags")):
                    break
            except OSError:
                assert server.poll() is None, "tensorboard ended"
            assert time.monotonic() < deadline, "tensorboard shows no scalars"
            time.sleep(0.3)
        yield ask
    finally:
        server.terminate()
        server.wait()


def test_tensorboard_serves_scalars_images_and_the_config(board, tiny_run):
    records = [record for record in read_records(tiny_run) if record["kind"] == "train"]
    tags = json.loads(board("plugin/scalars/tags"))
    (run,) = tags
    shown = {name for name in records[0] if name.startswith(("loss/", "score/"))}
    hidden = {f"training/{name}" for name in records[0].keys() - shown - {"step", "kind"}}
    for name in shown | hidden | {"training/images_per_second", "measures_final/psnr_ab"}:
        assert name in tags[run], name
    pictured = json.loads(board("plugin/images/tags"))
    assert list(pictured[run]) == ["images/samples"]
    # The Time Series page of TensorBoard opens with two groups, the first ones by name.
    groups = sorted({tag.split("/")[0] for tag in (*tags[run], *pictured[run])})
    assert groups[:2] == ["images", "loss"]
    points = json.loads(board("plugin/scalars/scalars", run=run, tag="loss/generators"))
    assert [step for _, step, _ in points] == [1, 2, 3, 4]
    np.testing.assert_allclose([value for *_, value in points], [r["loss/generators"] for r in records], rtol=1e-6)

    pictures = json.loads(board("plugin/images/images", run=run, tag="images/samples", sample=0))
    assert [picture["step"] for picture in pictures] == [0, 2, 4]
    query = dict(urllib.parse.parse_qsl(pictures[-1]["query"]))
    image = decode(board("plugin/images/individualImage", **query))
    assert (image == decode((tiny_run / "samples" / "step-000004.png").read_bytes())).all()

    assert "crop_size" in board("plugin/text/text", run=run, tag="config").decode()
