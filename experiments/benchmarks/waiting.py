"""How much of the training time the step waits for data.

  python experiments/benchmarks/waiting.py [--steps=40] [--flags="--dataset=FOLDER --crop_size=256 ..."]

Trains with the given flags (default: the demo set's 64 pixels, 6 blocks, 32 filters), without samples and checkpoints,
and prints the share of the time in `next()` of the data pipeline, after the first five steps.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As cyclegan_tf's command lines do.

SMALL = "--dataset=demo --load_size=72 --crop_size=64 --n_blocks=6 --ngf=32 --ndf=32"
WARM_UP = 5


def main():
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--flags", default=SMALL)
    given = parser.parse_args()
    from cyclegan_tf.config.flags import from_arguments
    from cyclegan_tf.data import pipeline, sources
    from cyclegan_tf.models.cyclegan import CycleGAN

    config = from_arguments(given.flags.split())
    batches = iter(pipeline.make_batches(sources.open_dataset(config), config, 0, given.steps + WARM_UP)[0])
    model = CycleGAN(config)
    waited = 0.0
    for step in range(given.steps + WARM_UP):
        if step == WARM_UP:
            waited, start = 0.0, time.perf_counter()
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        float(model.train_step(*batch)["loss/generators"])
    total = time.perf_counter() - start
    print(f"{1000 * total / given.steps:.1f} ms a step, of which {1000 * waited / given.steps:.2f} ms "
          f"({100 * waited / total:.2f} %) waiting for data; {given.steps} steps, {given.flags}")


if __name__ == "__main__":
    main()
