"""Share of the training time that a step waits for data.

  python experiments/benchmarks/waiting.py [--steps=40] [--flags="--dataset=FOLDER --crop_size=256 ..."]

Trains with the given flags (default: the demo set at 64 pixels, 6 blocks, 32 filters), without samples and checkpoints,
and prints the share of the time in `next()` of the data pipeline, after five steps of warm-up.
"""

import time

import harness

from cyclegan_tf.config.flags import from_arguments
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.models.cyclegan import CycleGAN

SMALL = "--dataset=demo_maps --load_size=72 --crop_size=64 --n_blocks=6 --ngf=32 --ndf=32"
WARM_UP = 5


def main() -> None:
    """Prints the time of a step and the share of it that is waiting."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=40, help="measured steps")
    parser.add_argument("--flags", default=SMALL, help="flags of the run, in one string")
    args = parser.parse_args()
    config = from_arguments(args.flags.split())
    batches = iter(pipeline.make_batches(sources.open_dataset(config), config, 0, args.steps + WARM_UP)[0])
    model = CycleGAN(config)
    start, waited = time.perf_counter(), 0.0
    for step in range(args.steps + WARM_UP):
        if step == WARM_UP:
            start, waited = time.perf_counter(), 0.0
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        float(model.train_step(*batch)["loss/generators"])
    total = time.perf_counter() - start
    print(f"{1000 * total / args.steps:.1f} ms a step, {1000 * waited / args.steps:.2f} ms "
          f"({100 * waited / total:.2f} %) of it waiting for data; {args.steps} steps, {args.flags}")


if __name__ == "__main__":
    main()
