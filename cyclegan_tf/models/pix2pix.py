"""pix2pix, the supervised counterpart of CycleGAN: one direction, trained on pairs (Isola et al. 2017)."""

import tensorflow as tf

from cyclegan_tf.models import compilation, losses, precision, replicas
from cyclegan_tf.models.optimizers import adam, assign_learning_rates
from cyclegan_tf.networks import registry


class Pix2Pix:
    """A generator A -> B and a discriminator of pairs (A, B), with the attributes of `cyclegan.CycleGAN`.

    Attributes:
      networks: gen_ab, and disc_b, which sees the channels of A and B.
      optimizers: one Adam for each.
      scaling: how gradients are taken and applied in the precision of the networks.
      replica_pools, pools, averages: empty; the authors' pix2pix has no pool.
    """

    def __init__(self, config, replicas=range(1)):
        self.config = config
        with precision.policy(config.mixed_precision):
            self.networks = {
                "gen_ab": registry.build_generator(config, "gen_ab"),
                "disc_b": registry.build_discriminator(config, "disc_b"),
            }
        self.scaling = precision.scaling(config.mixed_precision)
        self._calls = compilation.training_calls(config, self.networks)
        self.optimizers = {name: adam(config) for name in self.networks}
        for name, optimizer in self.optimizers.items():
            optimizer.build(self.networks[name].trainable_variables)
        self.set_learning_rate(config.learning_rate)
        self.replica_pools = [{} for _ in replicas]
        self.pools = self.replica_pools[0]
        self.averages = {}
        self._copies = {}
        if config.mixed_precision != "none":
            self._copies = {"gen_ab": registry.build_generator(config, "gen_ab")}
        self.compiled_step = tf.function(self.step, reduce_retracing=True, autograph=False)

    @property
    def generators(self):
        return self._copies or {"gen_ab": self.networks["gen_ab"]}

    def refresh(self):
        """As of `cyclegan.CycleGAN`."""
        for name, copy in self._copies.items():
            copy.set_weights(self.networks[name].get_weights())

    def set_learning_rate(self, value):
        assign_learning_rates(self.config, self.optimizers, value)

    def train_step(self, real_a, real_b):
        """One update of each network on pairs (N, H, W, C) in [-1, 1]; returns float32 scalars by name."""
        scalars, _ = self.compiled_step(real_a, real_b, {})
        return scalars

    def lend_past(self, shape_a, shape_b):
        """As of `training.CycleGAN`: there are no pools."""
        del shape_a, shape_b
        return [{} for _ in self.replica_pools]

    def keep_fakes(self, fakes):
        """As of `training.CycleGAN`: there are no pools."""

    def step(self, real_a, real_b, past):
        """The update as a pure function of tensors and the variables, to be traced.

        The discriminator is updated first, and the generator learns from the updated one, as in the authors' code.
        """
        return compilation.compile_part(self.config, self._step)(real_a, real_b), past

    def _step(self, real_a, real_b):
        config, generator, discriminator = self.config, self._calls["gen_ab"], self._calls["disc_b"]
        with tf.GradientTape() as generator_tape:
            fake_b = generator(real_a)  # (N, H, W, C)

            with generator_tape.stop_recording(), tf.GradientTape() as discriminator_tape:
                on_fake = discriminator(tf.concat([real_a, fake_b], axis=-1))
                on_real = discriminator(tf.concat([real_a, real_b], axis=-1))
                loss = 0.5 * (
                    losses.discriminator_fake_loss(config.gan_mode, on_fake)
                    + losses.discriminator_real_loss(config.gan_mode, on_real, config.label_smoothing)
                )
            scalars = {"loss/disc_b": loss, **self._update("disc_b", discriminator_tape, loss)}

            on_updated = discriminator(tf.concat([real_a, fake_b], axis=-1))
            scalars["loss/gen_ab"] = losses.generator_loss(config.gan_mode, on_updated)
            scalars["loss/l1"] = config.lambda_l1 * losses.l1_loss(fake_b, real_b)
            total = scalars["loss/generators"] = scalars["loss/gen_ab"] + scalars["loss/l1"]
        scalars |= self._update("gen_ab", generator_tape, total)
        scalars |= {"score/real_b": tf.reduce_mean(on_real), "score/fake_b": tf.reduce_mean(on_fake)}
        return scalars

    def _update(self, name, tape, loss):
        variables = self.networks[name].trainable_variables
        gradient = replicas.mean(self.scaling.gradient(tape, loss, variables))
        return self.scaling.update(
            {name: gradient},
            apply=lambda: self.optimizers[name].apply_gradients(zip(gradient, variables, strict=True)),
        )
