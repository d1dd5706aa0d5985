"""The launcher of local workers, and the environment that the scripts for clusters set."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

from cyclegan_tf.training import local_workers


@pytest.fixture
def launched(monkeypatch):
    """Function that launches workers that run the given code instead of cyclegan_tf.train; returns the exit status."""
    popen = subprocess.Popen

    def run(code, *arguments, n_workers=2):
        code = f"import json, os, signal, sys, time; me = json.loads(os.environ['TF_CONFIG'])['task']['index']\n{code}"

        def start(command, **options):
            assert command[:3] == [sys.executable, "-m", "cyclegan_tf.train"]
            return popen([sys.executable, "-c", code, *command[3:]], **options)

        monkeypatch.setattr(subprocess, "Popen", start)
        return local_workers.launch(n_workers, arguments, grace_seconds=1.0)

    return run


def test_workers_get_different_free_ports():
    first, second = (json.loads(env["TF_CONFIG"]) for env in local_workers.make_environments(2))
    assert first["cluster"] == second["cluster"]
    assert [one["task"] for one in (first, second)] == [{"type": "worker", "index": index} for index in (0, 1)]
    ports = {re.fullmatch(r"127\.0\.0\.1:(\d+)", name)[1] for name in first["cluster"]["worker"]}
    assert len(ports) == 2


def test_lines_are_numbered_and_options_passed_on(launched, capfd):
    code = "print('got', *sys.argv[1:])\nprint('hm', file=sys.stderr)"
    assert launched(code, "--ngf=3", "--noflip", n_workers=3) == 0
    lines = capfd.readouterr().out.splitlines()
    assert sorted(line for line in lines if "got" in line) == [f"[{index}] got --ngf=3 --noflip" for index in range(3)]
    assert sorted(line for line in lines if "hm" in line) == [f"[{index}] hm" for index in range(3)]


def test_one_failure_ends_all_workers_and_is_the_status(launched):
    start = time.monotonic()
    assert launched("if me == 1: sys.exit(7)\ntime.sleep(60)") == 7
    assert time.monotonic() - start < 30
    # The status of a killed worker is the one that shells give; the other worker may end by itself.
    assert launched("if me == 0: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(0.5)\nsys.exit(75)") == 137


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP], ids=lambda signum: signum.name)
def test_signals_are_passed_on(signum, launched, capfd, tmp_path):
    def ask():
        until = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=ask)
    thread.start()
    code = f"signal.signal({signum:d}, lambda *a: [print('saved', flush=True), sys.exit({128 + signum})])\n"
    # Each worker writes a file when it is ready for the signal.
    assert launched(f"{code}open({str(tmp_path)!r} + f'/{{me}}', 'w').close()\ntime.sleep(60)") == 128 + signum
    thread.join()
    assert sorted(capfd.readouterr().out.splitlines()) == ["[0] saved", "[1] saved"]
    assert signal.getsignal(signum) is signal.SIG_DFL


@pytest.mark.parametrize("index", [0, 1])
def test_a_signal_while_workers_start_ends_all(index, launched, monkeypatch, tmp_path):
    make_environments = local_workers.make_environments

    def ask(n_workers):
        for number, environment in enumerate(make_environments(n_workers)):
            if number == index:
                while len(list(tmp_path.iterdir())) < number:  # The workers so far ignore the signal.
                    time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGTERM)
            yield environment

    monkeypatch.setattr(local_workers, "make_environments", ask)
    start = time.monotonic()
    code = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen({str(tmp_path)!r} + f'/{{me}}', 'w').close()\n"
    assert launched(f"{code}time.sleep(40)") == 128 + signal.SIGTERM
    assert time.monotonic() - start < 30


def test_missing_options_are_an_error(run_command):
    child = run_command("cyclegan_tf.launch", "--workers=2")
    assert child.returncode == 2
    assert child.stderr.startswith("error: the options of cyclegan train are missing; give them after --")


@pytest.fixture
def stubs(tmp_path):
    """Environment whose python, scontrol and srun print their arguments."""
    programs = {
        "python": 'echo "$TF_CONFIG $@"',
        "scontrol": 'if [ "$1" = show ]; then echo n1; echo n7; else echo "scontrol $@"; fi',
        "srun": 'while [[ "$1" == --* ]]; do shift; done\nSLURM_PROCID=1 "$@"\nexit ${STATUS:-0}',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def parse(line):
    config, rest = json.JSONDecoder().raw_decode(line)
    return config, line[rest:].split()


def test_slurm_script_names_the_machines_and_requeues_after_preemption(stubs):
    def run(**environment):
        return subprocess.run(
            [ROOT / "experiments" / "cluster" / "slurm.sh", "--dataset=x y"], capture_output=True, text=True,
            check=False, env={**stubs, "SLURM_JOB_NODELIST": "n[1,7]", "SLURM_JOB_ID": "5", **environment},
        )

    child = run()
    assert child.returncode == 0, child.stderr
    config, arguments = parse(child.stdout.splitlines()[0])
    assert config == {"cluster": {"worker": ["n1:12355", "n7:12355"]}, "task": {"type": "worker", "index": 1}}
    assert arguments == ["-m", "cyclegan_tf.train", "--strategy=multi_worker", "--dataset=x", "y"]
    assert "scontrol requeue" not in child.stdout
    child = run(STATUS="75")
    assert child.returncode == 75
    assert child.stdout.endswith("scontrol requeue 5\n")
    assert "requeue" not in run(STATUS="2").stdout
    assert "requeue" not in run(STATUS="75", SLURM_RESTART_COUNT="20").stdout


def test_kubernetes_manifest_names_the_pods(stubs):
    text = (ROOT / "experiments" / "cluster" / "kubernetes.yaml").read_text()
    # The block of the first argument without its indentation, by hand: the package requires no YAML library.
    block = re.search(r"- \|\n((?: {14}.*\n)+)", text)[1].replace(" " * 14, "")
    child = subprocess.run(["bash", "-c", block, "cyclegan", "--a=1"], capture_output=True, text=True, check=True,
                           env={**stubs, "WORKERS": "3", "JOB_COMPLETION_INDEX": "2"})
    config, arguments = parse(child.stdout)
    names = [f"cyclegan-{index}.cyclegan:12355" for index in range(3)]
    assert config == {"cluster": {"worker": names}, "task": {"type": "worker", "index": 2}}
    assert arguments == ["-m", "cyclegan_tf.train", "--strategy=multi_worker", "--a=1"]
