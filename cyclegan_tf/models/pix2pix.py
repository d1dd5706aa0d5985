"""pix2pix: one generator, trained on pairs of images (Isola et al. 2017)."""

import tensorflow as tf

from cyclegan_tf.models import base, compilation, losses, replicas
from cyclegan_tf.models.base import Fakes, Past, Scalars


class Pix2Pix(base.Model):
    """Paired translation from A to B; the batches A and B of a step must be pairs.

    Networks: the generator gen_ab, and the discriminator disc_b, whose input is A and B concatenated along channels.
    Like the authors' pix2pix, the model has no image pool.
    """

    generator_names = ("gen_ab",)
    discriminator_names = ("disc_b",)

    def step(self, real_a: tf.Tensor, real_b: tf.Tensor, past: Past) -> tuple[Scalars, Fakes]:
        del past
        return compilation.compile_step(self.config, self._update)(real_a, real_b), {}

    def _update(self, real_a: tf.Tensor, real_b: tf.Tensor) -> Scalars:
        """Updates the discriminator, then the generator with the updated discriminator, as the authors' code does."""
        config, generator, discriminator = self.config, self.calls["gen_ab"], self.calls["disc_b"]
        with tf.GradientTape() as generator_tape:
            fake_b = generator(real_a)  # (N, H, W, C)

            with generator_tape.stop_recording(), tf.GradientTape() as discriminator_tape:
                on_fake = discriminator(self._pair(real_a, fake_b, "fake"))
                on_real = discriminator(self._pair(real_a, real_b, "real"))
                loss = self.adversarial_loss.discriminator(on_real, on_fake)
            scalars = {"loss/disc_b": loss, **self._update_network("disc_b", discriminator_tape, loss)}

            on_updated = discriminator(self._pair(real_a, fake_b, "generator"))
            scalars["loss/gen_ab"] = self.adversarial_loss.generator(on_updated)
            scalars["loss/l1"] = config.lambda_l1 * losses.l1_loss(fake_b, real_b)
            total = scalars["loss/generators"] = scalars["loss/gen_ab"] + scalars["loss/l1"]
        scalars |= self._update_network("gen_ab", generator_tape, total)
        scalars |= {"score/real_b": tf.reduce_mean(on_real), "score/fake_b": tf.reduce_mean(on_fake)}
        return scalars

    def _pair(self, a: tf.Tensor, b: tf.Tensor, use: str) -> tf.Tensor:
        """Concatenates A and B along channels; augments both with the same random numbers (--diff_augment)."""
        return tf.concat([self.augment(a, f"b/{use}"), self.augment(b, f"b/{use}")], axis=-1)

    def _update_network(self, name: str, tape: tf.GradientTape, loss: tf.Tensor) -> Scalars:
        gradient = self.scaling.gradient(tape, loss, self.networks[name].trainable_variables)
        return self.apply_gradients({name: replicas.average(gradient)})
