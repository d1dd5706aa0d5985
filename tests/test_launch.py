"""The launcher of local workers, and what the scripts of clusters set."""

import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT, run_python

from cyclegan_tf import launch


@pytest.fixture
def train_as(tmp_path):
    """Function that runs the launcher with a package cyclegan_tf whose train module is the given code."""

    def run(code, *arguments, n_workers=2):
        package = tmp_path / "cyclegan_tf"
        package.mkdir(exist_ok=True)
        for path in (ROOT / "cyclegan_tf").glob("*.py"):
            (package / path.name).write_bytes(path.read_bytes())
        (package / "train.py").write_text("import json, os, signal, sys, time\n"
                                          "me = json.loads(os.environ['TF_CONFIG'])['task']['index']\n" + code)
        return run_python("-m", "cyclegan_tf.launch", f"--workers={n_workers}", "--", *arguments,
                          PYTHONPATH=str(tmp_path), cwd=tmp_path, timeout=60)

    return run


def test_workers_know_each_other_by_free_ports():
    first, second = (json.loads(env["TF_CONFIG"]) for env in launch.environments(2))
    assert first["cluster"] == second["cluster"]
    assert [one["task"] for one in (first, second)] == [{"type": "worker", "index": index} for index in (0, 1)]
    ports = {re.fullmatch(r"127\.0\.0\.1:(\d+)", name)[1] for name in first["cluster"]["worker"]}
    assert len(ports) == 2


def test_lines_have_their_workers_number_and_options_arrive(train_as):
    child = train_as("print('got', *sys.argv[1:])\nprint('hm', file=sys.stderr)", "--ngf=3", "--noflip", n_workers=3)
    assert child.returncode == 0, child.stderr
    lines = child.stdout.splitlines()
    assert sorted(line for line in lines if "got" in line) == [f"[{index}] got --ngf=3 --noflip" for index in range(3)]
    assert sorted(line for line in lines if "hm" in line) == [f"[{index}] hm" for index in range(3)]


def test_one_failure_ends_all_and_is_the_status(train_as, monkeypatch):
    source = (ROOT / "cyclegan_tf" / "launch.py").read_text()
    assert "_PATIENCE = 20.0" in source
    start = time.monotonic()
    child = train_as("if me == 1: sys.exit(7)\nos.environ.pop('TF_CONFIG')\ntime.sleep(50)", "--ngf=3")
    assert child.returncode == 7
    assert time.monotonic() - start < 45
    # A worker that is killed counts as with shells, and the others may end on their own.
    child = train_as("if me == 0: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(1)\nsys.exit(75)", "--ngf=3")
    assert child.returncode == 137


def test_signals_are_passed_on(monkeypatch, capfd):
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(143)); print('up', flush=True); "
    popen, started = subprocess.Popen, []

    def start(command, **options):
        started.append(popen([sys.executable, "-c", code + "time.sleep(60)"], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)

    def ask():
        time.sleep(3)
        os.kill(os.getpid(), 15)

    thread = threading.Thread(target=ask)
    thread.start()
    assert launch.launch(2, []) == 143
    thread.join()
    assert [process.returncode for process in started] == [143, 143]
    assert capfd.readouterr().out.count("up") == 2


def test_options_must_follow(run_command):
    child = run_command("cyclegan_tf.launch", "--workers=2")
    assert child.returncode == 2
    assert child.stderr.startswith("error: the options of cyclegan_tf.train are missing: give them after --")


@pytest.fixture
def stubs(tmp_path):
    """Environment whose python, scontrol and srun only tell what they are given."""
    programs = {
        "python": 'echo "$TF_CONFIG $@"',
        "scontrol": 'if [ "$1" = show ]; then echo n1; echo n7; else echo "scontrol $@"; fi',
        "srun": 'while [[ "$1" == --* ]]; do shift; done\nSLURM_PROCID=1 "$@"\nexit ${STATUS:-0}',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def described(line):
    config, rest = json.JSONDecoder().raw_decode(line)
    return config, line[rest:].split()


def test_the_slurm_script_names_the_machines_and_goes_on_after_preemption(stubs):
    def run(**environment):
        return subprocess.run(
            [ROOT / "experiments" / "cluster" / "slurm.sh", "--dataset=x y"], capture_output=True, text=True, check=False,
            env={**stubs, "SLURM_JOB_NODELIST": "n[1,7]", "SLURM_JOB_ID": "5", **environment},
        )

    child = run()
    assert child.returncode == 0, child.stderr
    config, arguments = described(child.stdout.splitlines()[0])
    assert config == {"cluster": {"worker": ["n1:12355", "n7:12355"]}, "task": {"type": "worker", "index": 1}}
    assert arguments == ["-m", "cyclegan_tf.train", "--strategy=multi_worker", "--dataset=x", "y"]
    assert "scontrol requeue" not in child.stdout
    child = run(STATUS="75")
    assert child.returncode == 75
    assert child.stdout.endswith("scontrol requeue 5\n")
    assert "requeue" not in run(STATUS="2").stdout
    assert "requeue" not in run(STATUS="75", SLURM_RESTART_COUNT="20").stdout


def test_the_kubernetes_manifest_names_the_pods(stubs):
    text = (ROOT / "experiments" / "cluster" / "kubernetes.yaml").read_text()
    # The block of the first argument, less its indentation; no YAML library is among the requirements.
    block = re.search(r"- \|\n((?: {14}.*\n)+)", text)[1].replace(" " * 14, "")
    child = subprocess.run(["bash", "-c", block, "cyclegan", "--a=1"], capture_output=True, text=True, check=True,
                           env={**stubs, "WORKERS": "3", "JOB_COMPLETION_INDEX": "2"})
    config, arguments = described(child.stdout)
    names = [f"cyclegan-{index}.cyclegan:12355" for index in range(3)]
    assert config == {"cluster": {"worker": names}, "task": {"type": "worker", "index": 2}}
    assert arguments == ["-m", "cyclegan_tf.train", "--strategy=multi_worker", "--a=1"]
