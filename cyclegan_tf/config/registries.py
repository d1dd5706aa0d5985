"""Registries of the generators, discriminators, losses and models that options name. This module needs no TensorFlow.

The package's own networks, losses and models are registered by the same decorators as a plugin's.
"""

import dataclasses
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

    from cyclegan_tf.config.config import Config

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered function, and the facts about its result that need no TensorFlow.

    The decorators below explain the fields of this class and of its subclasses.

    Attributes:
      modules: the modules to import so that the function is registered: the one that defines the function and, if
        another module registers the function, that module.
    """

    build: Callable[..., Any]
    modules: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)


_E = TypeVar("_E", bound=Entry)


class Registry(dict[str, _E]):
    """The values that one option may have: entries by name, in the order of registration.

    Indexing with an unknown name raises a UserError.

    Args:
      option: name of the option, for error messages.
      positional: names of the arguments that registered functions get by position.
      keywords: names of the further arguments, which registered functions get by name.
    """

    def __init__(self, option: str, positional: Sequence[str], keywords: Sequence[str] = ()) -> None:
        super().__init__()
        self._option, self._positional, self._keywords = option, positional, keywords

    def __missing__(self, name: str) -> _E:
        raise UserError(f"--{self._option}={name}: expected one of {', '.join(self)}, or a name that a plugin "
                        "registers (see --plugins)")

    def add(self, name: str, entry: _E) -> None:
        """Registers `entry` as `name`.

        A function may be registered again, and then replaces the older one, as happens when a notebook cell runs twice
        or a script is its own plugin. Functions are the same if their qualified names are equal, and their modules or
        the files of their modules.

        Raises:
          UserError: `name` belongs to another function, or the entry has no function that takes the arguments.
        """
        if not hasattr(entry.build, "__qualname__"):
            raise UserError(f"cannot register {entry.build!r} as --{self._option}={name}: register a function or a "
                            "class")
        try:
            inspect.signature(entry.build).bind(*self._positional, **dict.fromkeys(self._keywords))
        except (TypeError, ValueError) as error:
            arguments = ", ".join((*self._positional, *self._keywords))
            raise UserError(f"cannot register {_identify(entry)} as --{self._option}={name}: {error}; the function "
                            f"must take the arguments ({arguments})") from error
        if name in self and not _is_same(self[name], entry):
            raise UserError(f"cannot register {_identify(entry)} as --{self._option}={name}: {_identify(self[name])} "
                            "has that name already; choose another name")
        self[name] = entry

    def make_decorator(
        self, name: str, make_entry: Callable[[Callable[..., Any]], _E]
    ) -> Callable[[_Function], _Function]:
        """Returns a decorator that registers `make_entry(function)` as `name` and returns the function.

        Raises:
          UserError: `name` is not a word, or the decorator stands without parentheses.
        """
        if callable(name):
            function = getattr(name, "__qualname__", name)
            raise UserError(f"cannot register {function} for --{self._option}, because the decorator has no (...); "
                            'write @cyclegan_tf.register_...("NAME")')
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            raise UserError(f"cannot register {name!r} for --{self._option}: a name consists of letters, digits, _, . "
                            "and -, and begins with a letter or digit")
        caller = _find_caller()

        def register(function: _Function) -> _Function:
            modules = tuple(dict.fromkeys((getattr(function, "__module__", None) or caller, caller)))
            self.add(name, dataclasses.replace(make_entry(function), modules=modules))
            return function

        return register


def _find_caller() -> str:
    """Returns the name of the module that calls a function of this module."""
    frame = sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return frame.f_globals.get("__name__", "__main__")


def _identify(entry: Entry) -> str:
    return f"{entry.build.__module__}.{entry.build.__qualname__}"


def _is_same(one: Entry, other: Entry) -> bool:
    file = _find_file(one)
    return _identify(one) == _identify(other) or (
        one.build.__qualname__ == other.build.__qualname__ and file is not None and file == _find_file(other)
    )


def _find_file(entry: Entry) -> str | None:
    """The file of the module that defines the entry's function; None for a notebook."""
    file = getattr(sys.modules.get(entry.build.__module__), "__file__", None)
    return file and os.path.abspath(file)


@dataclasses.dataclass(frozen=True)
class GeneratorEntry(Entry):
    """A registered generator."""

    size_multiple: "int | Callable[[Config], int]"
    options: tuple[str, ...] | None
    nce_layers: "Callable[[Config], tuple[str, ...]] | None"


@dataclasses.dataclass(frozen=True)
class DiscriminatorEntry(Entry):
    """A registered discriminator."""

    options: tuple[str, ...] | None
    smallest_size: "int | Callable[[Config], int]"


@dataclasses.dataclass(frozen=True)
class LossEntry(Entry):
    """A registered adversarial loss."""

    has_labels: bool
    gradient_penalty: bool


@dataclasses.dataclass(frozen=True)
class ModelEntry(Entry):
    """A registered model."""

    defaults: Mapping[str, Any]
    directions: tuple[Direction, ...]
    paired: bool
    has_pools: bool
    channels: "Callable[[Config], Mapping[str, tuple[int, int]]] | None"
    find_conflicts: "Callable[[Config], Iterable[str]] | None"
    options: tuple[str, ...] | None


GENERATORS: Registry[GeneratorEntry] = Registry(
    "generator", ("config",), ("input_channels", "output_channels", "name")
)
DISCRIMINATORS: Registry[DiscriminatorEntry] = Registry("discriminator", ("config",), ("input_channels", "name"))
LOSSES: Registry[LossEntry] = Registry("gan_mode", ("config",))
MODELS: Registry[ModelEntry] = Registry("model", ("config", "replicas"))


class AdversarialLoss(NamedTuple):
    """The loss functions of a discriminator and its generator.

    Each function maps a discriminator's scores, a float32 tensor of any shape whose first axis is the batch, to a
    float32 scalar: the mean over all scores.

    Attributes:
      real: the discriminator's loss on real images.
      fake: the discriminator's loss on generated images.
      generator: the generator's loss on its own images.
    """

    real: "Callable[[tf.Tensor], tf.Tensor]"
    fake: "Callable[[tf.Tensor], tf.Tensor]"
    generator: "Callable[[tf.Tensor], tf.Tensor]"

    def discriminator(self, on_real: "tf.Tensor", on_fake: "tf.Tensor") -> "tf.Tensor":
        """Half the sum of the losses on a discriminator's scores of real and of generated images."""
        return 0.5 * (self.real(on_real) + self.fake(on_fake))


def register_generator(
    name: str, *, size_multiple: "int | Callable[[Config], int]", options: Iterable[str] | None = None,
    nce_layers: "Callable[[Config], tuple[str, ...]] | None" = None,
) -> Callable[[_Function], _Function]:
    """Registers a function that builds a generator, for --generator=`name`.

    The function takes the arguments `(config, input_channels, output_channels, name)`, the last three by keyword, and
    returns a functional `keras.Model` called `name` with new weights. The network maps images
    (N, H, W, input_channels) to images (N, H, W, output_channels), float32 in [-1, 1]. These requirements are checked
    when a network is built; sizes and values of the output are checked only for the first network of a function in a
    process:

    - The input is `keras.Input((None, None, input_channels))`, so that images of any size can be translated.
    - The output has the same height and width as an input whose sides are multiples of `size_multiple` and at least 8.
    - The output is in [-1, 1], for example because the last layer is tanh.
    - The output is float32 even with --mixed_precision: give the last layer `dtype="float32"`.
    - Layers with weights have explicit names, because checkpoints find weights by the names of layers.

    --recompute divides the network after each layer that `networks.segments.mark_segment_end` marks; a network without
    marks is recomputed as a whole. Networks with dropout or running statistics cannot be recomputed. Translation by
    tiles needs layers of Keras or this package, or layers that declare their `receptive_field`.

    Args:
      name: value of --generator.
      size_multiple: the network keeps the size of images whose height and width are multiples of this number of pixels;
        a number, or a function of the `Config`. Images of other sizes are extended, and their translations cropped.
      options: the options of generators, such as ngf, that the function reads; a run warns about others that are set.
        Unless antialias is one of them, --antialias is an error. None: unknown, so a run does not warn.
      nce_layers: function of the `Config`; returns the names of the layers whose outputs --model=cut and fastcut
        compare unless --nce_layers names others.

    Raises:
      UserError: another function has this name, or `options` or `nce_layers` has a wrong type. A wrong `size_multiple`
        is an error when a network is built.
    """
    read = _parse_options(f"--generator={name}", options)
    _require_functions(f"--generator={name}", nce_layers=nce_layers)
    return GENERATORS.make_decorator(name, lambda function: GeneratorEntry(function, size_multiple, read, nce_layers))


def register_discriminator(
    name: str, *, options: Iterable[str] | None = None, smallest_size: "int | Callable[[Config], int]" = 1,
) -> Callable[[_Function], _Function]:
    """Registers a function that builds a discriminator, for --discriminator=`name`.

    The function takes the arguments `(config, input_channels, name)` and returns a functional `keras.Model` called
    `name` with new weights. The network maps images (N, H, W, input_channels) in [-1, 1] to scores: raw (no sigmoid),
    float32, of any shape whose first axis is N. These requirements are checked when a network is built:

    - The input is `keras.Input((None, None, input_channels))`, or has the size of the training crops.
    - The output is float32 even with --mixed_precision: give the last layer `dtype="float32"`.
    - Layers with weights have explicit names, because checkpoints find weights by the names of layers.
    - The scores of images of `crop_size` are finite, and there is at least one for each image.

    The gradient penalty of --gan_mode=wgangp differentiates the network twice. The instance norms of tensorflow-addons
    and Keras have a wrong second derivative; use `networks.blocks.normalize` with
    `second_derivative=config.penalizes_gradient`. A discriminator with a batch norm is refused.

    Args:
      name: value of --discriminator.
      options: the options of discriminators, such as ndf, that the function reads; a run warns about others that are
        set. Unless antialias is one of them, --antialias=down and both are an error. None: unknown, so a run does not
        warn.
      smallest_size: the smallest height and width that the network accepts, in pixels; a number, or a function of the
        `Config`.

    Raises:
      UserError: another function has this name, or `options` has a wrong type. A wrong `smallest_size` is an error when
        a network is built.
    """
    read = _parse_options(f"--discriminator={name}", options)
    return DISCRIMINATORS.make_decorator(name, lambda function: DiscriminatorEntry(function, read, smallest_size))


def register_loss(
    name: str, *, has_labels: bool = False, gradient_penalty: bool = False
) -> Callable[[_Function], _Function]:
    """Registers a function that makes an adversarial loss, for --gan_mode=`name`.

    The function takes the argument `config` and returns an `AdversarialLoss`. Its three functions are checked to return
    float32 scalars when a model is built.

    Args:
      name: value of --gan_mode.
      has_labels: whether the target of real images is 1 - `config.label_smoothing`; if not, --label_smoothing is an
        error.
      gradient_penalty: whether CycleGAN adds the gradient penalty of Gulrajani et al. 2017 to the discriminators' loss;
        pix2pix and CUT refuse such a loss.

    Raises:
      UserError: another function has this name.
    """
    return LOSSES.make_decorator(name, lambda function: LossEntry(function, has_labels, gradient_penalty))


def register_model(
    name: str, *, defaults: Mapping[str, Any] | None = None, directions: Iterable[str] = ("a2b", "b2a"),
    paired: bool = False, has_pools: bool = True,
    channels: "Callable[[Config], Mapping[str, tuple[int, int]]] | None" = None,
    find_conflicts: "Callable[[Config], Iterable[str]] | None" = None, options: Iterable[str] | None = None,
) -> Callable[[_Function], _Function]:
    """Registers a model, that is, networks that train together and their losses, for --model=`name`.

    Decorates a subclass of `cyclegan_tf.models.base.Model`, or a function that takes its arguments `(config, replicas)`
    and returns an instance. The subclass names its networks and implements the training step; `models.base` describes
    the contract. `models.pix2pix` is a short example.

    Args:
      name: value of --model.
      defaults: values of options that the caller of `Config`, flags and presets do not set, by name.
      directions: the directions that the model learns: a2b with a generator gen_ab, or a2b and b2a with generators
        gen_ab and gen_ba.
      paired: whether the images A and B of a training step must be pairs.
      has_pools: whether the model has image pools, which need images of one size.
      channels: function of the `Config`; returns the (input, output) channels of networks by name, for networks
        that CycleGAN lacks or whose channels differ from CycleGAN's: gen_ab and gen_ba translate between
        `config.input_channels` of A and `config.output_channels` of B, disc_a judges images of A, disc_b judges images
        of B.
      find_conflicts: function of the `Config`; returns an error message for each option that cannot work with the
        model. A message names the flag and the remedy.
      options: the options that this model reads and other models do not, such as lambda_l1; a run warns about other
        models' options that are set. None: unknown, so a run does not warn.

    Raises:
      UserError: another model has this name, `directions` is neither a2b nor a2b and b2a, or `defaults`, `options`,
        `channels` or `find_conflicts` has a wrong type.
    """
    if isinstance(directions, str):
        raise UserError(f"cannot register --model={name} for directions {directions!r}: give a list, such as ['a2b']")
    if defaults is not None and not isinstance(defaults, Mapping):
        raise UserError(f"cannot register --model={name} with defaults {defaults!r}: give a dictionary of options")
    parsed = tuple(Direction.parse(direction) for direction in directions)
    if parsed[:1] != (Direction.A2B,) or len(set(parsed)) < len(parsed):
        raise UserError(f"cannot register --model={name} for directions {', '.join(parsed)}: give a2b, or a2b and b2a")
    read = _parse_options(f"--model={name}", options)
    _require_functions(f"--model={name}", channels=channels, find_conflicts=find_conflicts)
    return MODELS.make_decorator(name, lambda function: ModelEntry(
        function, dict(defaults or {}), parsed, paired, has_pools, channels, find_conflicts, read
    ))


def _parse_options(flag: str, options: Iterable[str] | None) -> tuple[str, ...] | None:
    """Returns the `options` of a registration as a tuple; raises a UserError for anything but a list of names."""
    if options is None:
        return None
    if isinstance(options, str) or not isinstance(options, Iterable):
        raise UserError(f"cannot register {flag} with options {options!r}: give a list of the names of options")
    return tuple(options)


def _require_functions(flag: str, **arguments: Any) -> None:
    """Raises a UserError if one of these arguments of a registration is neither a function nor None."""
    for argument, value in arguments.items():
        if value is not None and not callable(value):
            raise UserError(f"cannot register {flag} with {argument} {value!r}: give a function of the Config")
