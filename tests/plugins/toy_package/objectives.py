"""An adversarial loss, and a model of one direction that has no cycle."""

import tensorflow as tf

import cyclegan_tf
from cyclegan_tf.models import base, compilation, losses, replicas


@cyclegan_tf.register_loss("toy_loss")
def make_loss(config):
    del config
    return cyclegan_tf.AdversarialLoss(
        real=lambda scores: tf.reduce_mean(tf.nn.softplus(-scores)),
        fake=lambda scores: tf.reduce_mean(tf.nn.softplus(scores)),
        generator=lambda scores: tf.reduce_mean(tf.nn.softplus(-scores)),
    )


@cyclegan_tf.register_model("toy_model", directions=("a2b",), defaults={"pool_size": 0, "lambda_l1": 5.0})
class ToyModel(base.Model):
    """Learns a translation from A to B that stays close to A."""

    generator_names = ("gen_ab",)
    discriminator_names = ("disc_b",)

    def step(self, real_a, real_b, past):
        del past
        return compilation.compile_step(self.config, self._update)(real_a, real_b), {}

    def _update(self, real_a, real_b):
        with tf.GradientTape(persistent=True) as tape:
            fake_b = self.calls["gen_ab"](real_a)
            on_real, on_fake = self.calls["disc_b"](real_b), self.calls["disc_b"](fake_b)
            generator = self.adversarial_loss.generator(on_fake)
            generator += self.config.lambda_l1 * losses.l1_loss(fake_b, real_a)
            discriminator = self.adversarial_loss.discriminator(on_real, on_fake)
        objectives = {"gen_ab": generator, "disc_b": discriminator}
        gradients = {
            name: replicas.average(self.scaling.gradient(tape, loss, self.networks[name].trainable_variables))
            for name, loss in objectives.items()
        }
        return {f"loss/{name}": loss for name, loss in objectives.items()} | self.apply_gradients(gradients)
