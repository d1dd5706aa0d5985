"""A process of test_distribution.py: trains as its argument, a JSON object, says, without samples, measures, exports.

Keys: config (overrides of the tiny preset), workdir; optionally cpus (number of logical devices); optionally signal,
worker, step, from_step (steps done before) and after (a file): before step `step`, worker `worker` waits for the file
and sends itself `signal`; optionally accepts_nan: images with NaN are read, so that losses are not finite.
"""

import json
import os
import signal
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow as tf
from conftest import skip_outputs

from cyclegan_tf import console
from cyclegan_tf.config import Config
from cyclegan_tf.errors import Stopped
from cyclegan_tf.images import ranges
from cyclegan_tf.training import distribution, trainer

given = json.loads(sys.argv[1])
if "cpus" in given:
    devices = [tf.config.LogicalDeviceConfiguration()] * given["cpus"]
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
skip_outputs(pytest.MonkeyPatch())
console.log_to_stderr()
if given.get("accepts_nan"):
    ranges.require_range = lambda image: None

if "signal" in given:
    train_step_of_package, steps = distribution.StrategyReplicas.train_step, []

    def train_step(self, model, batches, get_signal):
        steps.append(1)
        newest = given.get("from_step", 0) + len(steps)
        if newest == given["step"] and self.local.start == given["worker"]:
            while not os.path.exists(given.get("after", "/")):
                time.sleep(0.01)
            os.kill(os.getpid(), getattr(signal, given["signal"]))
        return train_step_of_package(self, model, batches, get_signal)

    distribution.StrategyReplicas.train_step = train_step
try:
    trainer.train(Config.preset("tiny", **given["config"]), given["workdir"])
except Stopped as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(stopped.status)
