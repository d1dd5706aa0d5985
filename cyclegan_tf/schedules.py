"""Learning-rate factors over a run: pure functions of how far it has come."""


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
