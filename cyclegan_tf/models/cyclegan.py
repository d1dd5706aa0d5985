"""CycleGAN: two generators, two discriminators, two image pools and their training step (paper, sections 3 and 4)."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Domain
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import base, compilation, image_pool, losses, replicas
from cyclegan_tf.models.base import Fakes, Gradients, Past, Scalars

# --generator_loss=separate: each generator minimizes only the losses on its own output images. The last generator in
# the cycle B -> A -> B is gen_ab, so loss/cycle_b belongs to gen_ab.
_SEPARATE_LOSSES = {
    "gen_ab": ("loss/gen_ab", "loss/cycle_b", "loss/identity_b"),
    "gen_ba": ("loss/gen_ba", "loss/cycle_a", "loss/identity_a"),
}


class CycleGAN(base.Model):
    """Unpaired translation in both directions (Zhu et al. 2017).

    Networks: the generators gen_ab (A -> B) and gen_ba, and the discriminators disc_a, which tells real images of A
    from generated ones, and disc_b. The pools fake_a and fake_b hold past images of the generators.
    """

    generator_names = ("gen_ab", "gen_ba")
    discriminator_names = ("disc_a", "disc_b")
    pool_names = ("fake_a", "fake_b")

    def __init__(self, config: Config, replicas: Iterable[int] = range(1)) -> None:
        super().__init__(config, replicas)
        # Two batches can share one call of a network, which is faster, if their images have one size and no layer
        # computes statistics over the batch.
        has_statistics = any(network.non_trainable_weights for network in self.networks.values())
        self._joins_batches = config.crops and not has_statistics

    def draw_past(self, shape_a: Sequence[int], shape_b: Sequence[int]) -> list[Past]:
        # Check the sizes here: inside a step that is traced for images of any size, static shapes are unknown.
        if self.config.penalizes_gradient and tuple(shape_a[1:3]) != tuple(shape_b[1:3]):
            raise UserError(
                f"--gan_mode={self.config.gan_mode} mixes real with generated images, but images of A have "
                f"{shape_a[2]} x {shape_a[1]} pixels and images of B {shape_b[2]} x {shape_b[1]}; use a --preprocess "
                "mode that crops, or another --gan_mode"
            )
        return super().draw_past(shape_a, shape_b)

    def get_pool_shapes(self, shape_a: Sequence[int], shape_b: Sequence[int]) -> Mapping[str, Sequence[int]]:
        # A fake has the size of its source and the channels of its own domain.
        return {"fake_a": (*shape_b[:3], shape_a[3]), "fake_b": (*shape_a[:3], shape_b[3])}

    def step(self, real_a: tf.Tensor, real_b: tf.Tensor, past: Past) -> tuple[Scalars, Fakes]:
        if replicas.get_count() == 1:
            return compilation.compile_step(self.config, self._update)(real_a, real_b, past)
        # Between two XLA programs, the replicas average their gradients.
        return self._update(real_a, real_b, past, functools.partial(compilation.compile_part, self.config))

    def _update(
        self, real_a: tf.Tensor, real_b: tf.Tensor, past: Past,
        compile_part: Callable[[Callable], Callable] = lambda function: function,
    ) -> tuple[Scalars, Fakes]:
        # All networks are updated at once. The authors update the generators first, with equal results: the
        # discriminators learn from fakes that were made before the update, and the generators' loss never sees the
        # updated discriminators.
        scalars, gradients, fakes = compile_part(self._differentiate)(real_a, real_b, past)
        return scalars | compile_part(self.apply_gradients)(replicas.average_gradients(gradients)), fakes

    def _differentiate(self, real_a: tf.Tensor, real_b: tf.Tensor, past: Past) -> tuple[Scalars, Gradients, Fakes]:
        """Returns the losses and scores, the gradient of each network's objective, and the fakes for the pools."""
        config, networks, cycle_loss = self.config, self.calls, losses.CYCLE_LOSSES[self.config.cycle_loss]
        with tf.GradientTape(persistent=True) as tape:
            # Keep the authors' order of calls, because the running statistics of a batch norm depend on the order.
            fake_b, same_b = self._translate("gen_ab", real_a, real_b)  # (N, H, W, C) each
            cycled_a = networks["gen_ba"](fake_b)
            fake_a, same_a = self._translate("gen_ba", real_b, real_a)
            cycled_b = networks["gen_ab"](fake_a)
            if config.lambda_identity and same_a is None:
                same_b, same_a = networks["gen_ab"](real_b), networks["gen_ba"](real_a)
            on_fake_b = networks["disc_b"](self.augment(fake_b, "b/generator"))
            on_fake_a = networks["disc_a"](self.augment(fake_a, "a/generator"))
            scalars = {
                "loss/gen_ab": self.adversarial_loss.generator(on_fake_b),
                "loss/gen_ba": self.adversarial_loss.generator(on_fake_a),
                "loss/cycle_a": config.lambda_a * cycle_loss(cycled_a, real_a),
                "loss/cycle_b": config.lambda_b * cycle_loss(cycled_b, real_b),
            }
            if config.lambda_identity:
                # As in the authors' code, the weight of gen_ba's loss, which compares with A, depends on lambda_a.
                weight_a, weight_b = (config.lambda_identity * w for w in (config.lambda_a, config.lambda_b))
                scalars["loss/identity_a"] = weight_a * losses.l1_loss(same_a, real_a)
                scalars["loss/identity_b"] = weight_b * losses.l1_loss(same_b, real_b)
            objectives = self._get_generator_objectives(scalars)
            scalars["loss/generators"] = tf.add_n(list(scalars.values()))
            fakes = {"fake_a": fake_a, "fake_b": fake_b}
            pooled = {
                name: image_pool.exchange(fake, *past[name]) if past else tf.stop_gradient(fake)
                for name, fake in fakes.items()
            }
            scalars |= self._compute_discriminator_loss("a", real_a, pooled["fake_a"])
            scalars |= self._compute_discriminator_loss("b", real_b, pooled["fake_b"])

        objectives |= {name: scalars[f"loss/{name}"] for name in self.discriminator_names}
        # All gradients are taken before any update, because an update would change the other gradients.
        gradients = self._compute_gradients(tape, objectives)
        # `seeded_step` casts all fakes to the type of the pools. A cast here is part of the compiled program.
        stored = {name: tf.cast(fakes[name], images[0].dtype) for name, (images, _) in past.items()}
        return scalars, gradients, {name: tf.split(stored[name], len(past[name][0])) for name in past}

    def _translate(self, name: str, source: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Translates `source` with generator `name`; also returns the image that the identity loss compares.

        The identity loss compares `target`, a real image of the output domain, with the generator's output for
        `target`. With --identity_mode=cross, the loss compares `target` with the translation of `source`, its pair. The
        second value is None without an identity loss, or if the output for `target` needs a separate call.
        """
        generator = self.calls[name]
        if self.config.lambda_identity and self.config.identity_mode == "cross":
            translation = generator(source)
            return translation, translation
        if not self.config.lambda_identity or not self._joins_batches:
            return generator(source), None
        translation, same = tf.split(generator(tf.concat([source, target], axis=0)), 2)
        return translation, same

    def _get_generator_objectives(self, scalars: Scalars) -> Scalars:
        """Returns each generator's objective: the sum of all losses, or its own losses (--generator_loss=separate)."""
        if self.config.generator_loss == "joint":
            return dict.fromkeys(self.generator_names, tf.add_n(list(scalars.values())))
        return {
            name: tf.add_n([scalars[loss] for loss in own if loss in scalars]) for name, own in _SEPARATE_LOSSES.items()
        }

    def _compute_discriminator_loss(self, domain: Domain, real: tf.Tensor, fake: tf.Tensor) -> Scalars:
        """Returns 1/2 (loss on real + loss on fake), plus wgangp's gradient penalty, and the mean scores of both."""
        config, discriminator = self.config, self.calls[f"disc_{domain}"]
        real, fake = self.augment(real, f"{domain}/real"), self.augment(fake, f"{domain}/fake")
        if self._joins_batches:
            on_real, on_fake = tf.split(discriminator(tf.concat([real, fake], axis=0)), 2)
        else:
            on_real, on_fake = discriminator(real), discriminator(fake)
        loss = self.adversarial_loss.discriminator(on_real, on_fake)
        if config.penalizes_gradient:
            iteration = tf.cast(self.optimizers[f"disc_{domain}"].iterations, tf.int64)
            seed = tf.stack([tf.constant(2 * config.seed + (domain == "b"), tf.int64), iteration])
            number, count = replicas.get_replica()
            # Draw for the images of all replicas; this replica takes its part.
            alpha = tf.split(tf.random.stateless_uniform(count * tf.shape(real)[:1], seed), count)[number]
            loss += losses.gradient_penalty(discriminator, real, fake, alpha)
        return {
            f"loss/disc_{domain}": loss,
            f"score/real_{domain}": tf.reduce_mean(on_real),
            f"score/fake_{domain}": tf.reduce_mean(on_fake),
        }

    def _compute_gradients(self, tape: tf.GradientTape, objectives: Scalars) -> Gradients:
        """Returns the gradient of each network's objective with respect to the weights of the network."""
        variables = {name: self.networks[name].trainable_variables for name in objectives}
        gradients: Gradients = {}
        for objective in {id(objective): objective for objective in objectives.values()}.values():
            # Networks that share an objective share its backward pass.
            names = [name for name, own in objectives.items() if own is objective]
            found = self.scaling.gradient(tape, objective, [variables[name] for name in names])
            gradients |= zip(names, found, strict=True)
        return gradients
