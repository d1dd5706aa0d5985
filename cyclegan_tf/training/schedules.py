"""The learning rate of each step, as pure functions of the steps or epochs already trained."""

import math

from cyclegan_tf.config import Config


def compute_linear_decay(done: int, constant: int, decay: int) -> float:
    """Factor 1 for `constant` units, then a straight line that would reach 0 one unit after the last.

    1 - max(0, done + 1 - constant) / (decay + 1), the authors' `lambda_rule` with epoch_count 1.

    The authors' training loop has called the scheduler in two places. Since July 2020, the loop calls the scheduler at
    the beginning of an epoch, so the first epoch trains with the second factor and the last epoch trains with a
    learning rate of zero, to no effect. This function keeps the older convention: the first unit (`done` = 0) has the
    first factor, and the last unit still learns, with 1 / (decay + 1) of the rate.

    Args:
      done: whole epochs (or steps) already trained, from 0.
      constant: units at the full rate.
      decay: units over which the rate falls.
    """
    return 1.0 - max(0, done + 1 - constant) / (decay + 1)


def compute_step_decay(done: int, every: int) -> float:
    """Factor 1 that falls to a tenth after every `every` units: the authors' policy "step" with gamma 0.1."""
    return 0.1 ** (done // every)


def compute_cosine_decay(done: int, total: int) -> float:
    """Factor that falls along half a cosine wave from 1 to almost 0 in `total` units: (1 + cos(pi done / total)) / 2.

    Loshchilov and Hutter 2017, equation 5, without restarts. The authors' "cosine" has its minimum at n_epochs and
    rises again if training continues; here the half wave spans the whole run.
    """
    return 0.5 * (1.0 + math.cos(math.pi * done / total))


def compute_decay_factor(policy: str, done: int, constant: int, decay: int, every: int) -> float:
    """Factor of the learning rate under `policy`: linear, step, cosine or constant.

    `done`, `constant`, `decay` and `every` share one unit, epochs or steps; the functions above explain them.
    """
    if policy == "linear":
        return compute_linear_decay(done, constant, decay)
    if policy == "step":
        return compute_step_decay(done, every)
    if policy == "cosine":
        return compute_cosine_decay(done, constant + decay)
    if policy == "constant":
        return 1.0
    raise ValueError(f"unknown learning-rate policy {policy!r}")


def compute_replica_factor(rule: str, n_replicas: int) -> float:
    """Factor of the learning rate for N = `n_replicas` under `rule`: none (1), linear (N) or sqrt (the root of N)."""
    return {"none": 1.0, "linear": float(n_replicas), "sqrt": math.sqrt(n_replicas)}[rule]


def compute_learning_rate(config: Config, steps_done: int, epochs_done: int, n_replicas: int = 1) -> float:
    """Adam's learning rate in the step that follows `steps_done` steps and `epochs_done` whole epochs.

    The schedule counts epochs, or steps if --max_steps sets the length of the run. For steps, n_epochs, n_epochs_decay
    and lr_decay_every are scaled by max_steps / (n_epochs + n_epochs_decay) and rounded. If n_epochs and n_epochs_decay
    are 0, lr_decay_every is a number of steps.
    """
    done, constant, decay, every = epochs_done, config.n_epochs, config.n_epochs_decay, config.lr_decay_every
    if config.max_steps:
        if n_epochs := constant + decay:
            constant, every = (round(config.max_steps * (epochs / n_epochs)) for epochs in (constant, every))
        done, decay, every = steps_done, config.max_steps - constant, max(every, 1)
    factor = compute_decay_factor(config.lr_policy, done, constant, decay, every)
    return config.learning_rate * factor * compute_replica_factor(config.scale_learning_rate, n_replicas)
