"""Learning-rate factors over a run: pure functions of how far it has come."""

import math


def linear_decay(done, constant, decay):
    """Factor of the learning rate after `done` whole units: 1, then a straight line to almost zero.

    1 - max(0, done + 1 - constant) / (decay + 1), the authors' `lambda_rule` with epoch_count 1.

    Their training loop has called the scheduler at two places. Since July 2020 it does so at the beginning of an
    epoch, so that the first epoch is trained with the second factor and the last one with a learning rate of zero, for
    nothing. Here the older convention holds: the first unit (`done` = 0) has the first factor, and the last one still
    learns, with 1 / (decay + 1) of the rate.

    Args:
      done: whole epochs (or steps) already trained, from 0.
      constant: units at the full rate.
      decay: units over which it falls.
    """
    return 1.0 - max(0, done + 1 - constant) / (decay + 1)


def step_decay(done, every):
    """0.1 to the number of times that `every` units are done: the authors' policy "step", gamma 0.1."""
    return 0.1 ** (done // every)


def cosine_decay(done, total):
    """(1 + cos(pi done / total)) / 2: from 1 to almost 0 in one half wave over the run of `total` units.

    Loshchilov and Hutter 2017 without restarts. The authors' "cosine" has its minimum at n_epochs and, if training goes
    on, rises again; here the half wave spans the whole run.
    """
    return 0.5 * (1.0 + math.cos(math.pi * done / total))


def factor(policy, done, constant, decay, every):
    """The factor of the policy called linear, step, cosine or constant; the arguments as above, in one unit."""
    return {
        "linear": lambda: linear_decay(done, constant, decay),
        "step": lambda: step_decay(done, every),
        "cosine": lambda: cosine_decay(done, constant + decay),
        "constant": lambda: 1.0,
    }[policy]()


def scale(rule, n_replicas):
    """Factor of the learning rate for `n_replicas` times the batch: none (1), linear or sqrt (of their number)."""
    return {"none": 1.0, "linear": float(n_replicas), "sqrt": math.sqrt(n_replicas)}[rule]
