"""Makes keras2.zip or keras3.zip beside this file, depending on the stack that runs this script.

  python tests/data/stacks/make.py

The archive holds a run of two steps of a very small network: config.json, the checkpoint, the SavedModel from A to B,
and expected.npy, the generator's output for the image of test_interchange.py.
"""

import os
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]

import numpy as np
import tensorflow as tf
from test_interchange import image

from cyclegan_tf.config import Config
from cyclegan_tf.inference import translator
from cyclegan_tf.training import trainer


def main():
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        trainer.train(Config.preset("tiny", ngf=2, ndf=2, pool_size=0, max_steps=2, keep_checkpoints=1), str(run))
        a_to_b = translator.load_run(str(run)).translators["a2b"]
        np.save(run / "expected.npy", a_to_b.translate_floats(image())["images"].numpy())
        name = "keras2" if tf.__version__.startswith("2.15.") else "keras3"
        with zipfile.ZipFile(HERE / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for part in ("config.json", "expected.npy", "checkpoints", "export/a2b"):
                for file in sorted([run / part, *(run / part).rglob("*")]):
                    if file.is_file():
                        archive.write(file, file.relative_to(run))


if __name__ == "__main__":
    main()
