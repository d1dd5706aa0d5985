"""Converts weights between the authors' PyTorch networks and this package's Keras networks. Needs only NumPy.

A PyTorch state_dict names a weight by its place among the modules ("model.10.conv_block.1.weight"), this package by its
layer ("block1a_conv/kernel", see `networks.weights.name_weights`). PyTorch's kernels are (out, in, H, W), and
(in, out, H, W) for transposed convolutions; Keras's are (H, W, in, out) and (H, W, out, in). The transposition is the
same for both.

A dict of options describes a network. Its keys are Config's options (all of vars(config) will do), and:

  kind: "generator" or "discriminator"; determines whether the option `generator` or `discriminator` applies.
  input_channels, output_channels: channels of the images; a discriminator has input_channels only.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cyclegan_tf.errors import UserError

Options = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]

_TO_KERAS = (2, 3, 1, 0)
_TO_PYTORCH = (3, 2, 0, 1)
_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_RUNNING = ("running_mean", "running_var", "num_batches_tracked")
_MAX_LISTED = 10  # Names listed in an error message; a wrong architecture misses hundreds.
# Options that determine the weights of each network; error messages list them.
_DESCRIBING = {
    "resnet": ("ngf", "n_blocks", "norm", "padding", "dropout", "antialias", "input_channels", "output_channels"),
    "unet": ("ngf", "n_downs", "norm", "input_channels", "output_channels"),
    "patch": ("ndf", "n_layers", "norm", "antialias", "input_channels"),
    "pixel": ("ndf", "norm", "input_channels"),
}


class Layer(NamedTuple):
    """A convolution or normalization layer.

    Attributes:
      key: the module's key in the PyTorch state_dict.
      name: the name of the Keras layer.
      shape: the shape of the kernel in PyTorch, or (channels,) for a normalization. Only batch norms have weights.
      bias: the length of the convolution's bias, or 0.
    """

    key: str
    name: str
    shape: tuple[int, ...]
    bias: int = 0


def _conv(key: str, name: str, inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> Layer:
    return Layer(key, f"{name}_conv", (outputs, inputs, kernel, kernel), outputs if bias else 0)


def _transposed_conv(key: str, name: str, inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> Layer:
    return Layer(key, f"{name}_conv", (inputs, outputs, kernel, kernel), outputs if bias else 0)


def _norm(key: str, name: str, channels: int) -> Layer:
    return Layer(key, f"{name}_norm", (channels,))


def _list_resnet_layers(options: Options) -> list[Layer]:
    """The layers of a ResNet generator, in PyTorch's order.

    In PyTorch, reflection padding, replication padding and dropout are modules without weights, which count in the keys
    of the modules behind them. Zero padding is part of the convolution.
    """
    ngf, n_blocks, bias = options["ngf"], options["n_blocks"], options["norm"] == "instance"
    layers = [_conv("model.1", "stem", options["input_channels"], ngf, 7, bias=bias), _norm("model.2", "stem", ngf)]
    places = _ResnetPlaces(options)
    for i, number in enumerate(places.downs, 1):
        width = ngf * 2**i
        layers.append(_conv(f"model.{number}", f"down{i}", width // 2, width, 3, bias=bias))
        layers.append(_norm(f"model.{number + 1}", f"down{i}", width))
    width, has_padding = 4 * ngf, options["padding"] != "zero"
    numbers = {"a": int(has_padding), "b": 3 + 2 * has_padding + options["dropout"]}
    for i in range(1, n_blocks + 1):
        for half, number in numbers.items():
            block = f"model.{places.first_block + i - 1}.conv_block"
            layers.append(_conv(f"{block}.{number}", f"block{i}{half}", width, width, 3, bias=bias))
            layers.append(_norm(f"{block}.{number + 1}", f"block{i}{half}", width))
    up = _conv if _has_blur(options, "up") else _transposed_conv
    for i, number in enumerate(places.ups, 1):
        width = ngf * 2 ** (2 - i)
        layers.append(up(f"model.{number}", f"up{i}", 2 * width, width, 3, bias=bias))
        layers.append(_norm(f"model.{number + 1}", f"up{i}", width))
    return [*layers, _conv(f"model.{places.head}", "head", ngf, options["output_channels"], 7)]


class _ResnetPlaces:
    """Numbers of a ResNet generator's modules in PyTorch.

    A blur is a separate module, behind the ReLU on the way down and in front of the convolution on the way up.

    Attributes:
      downs, ups: the convolutions that change the size.
      first_block: the first residual block.
      head: the last convolution.
      filters: {key of a blur's filter: (channels, side)}.
    """

    def __init__(self, options: Options) -> None:
        blur_down, blur_up = _has_blur(options, "down"), _has_blur(options, "up")
        self.downs = (4, 8) if blur_down else (4, 7)
        self.first_block = 12 if blur_down else 10
        end = self.first_block + options["n_blocks"]
        self.ups = (end + 1, end + 5) if blur_up else (end, end + 3)
        self.head = end + (9 if blur_up else 7)
        ngf = options["ngf"]
        self.filters = {f"model.{n + 3}.filt": (ngf * 2**i, 3) for i, n in enumerate(self.downs, 1) if blur_down}
        self.filters |= {f"model.{n - 1}.filt": (ngf * 2 ** (3 - i), 4) for i, n in enumerate(self.ups, 1) if blur_up}


def _has_blur(options: Options, way: str) -> bool:
    """True if the network blurs before it changes sizes on its `way`, down or up."""
    return options.get("antialias", "none") in (way, "both")


def _list_unet_layers(options: Options) -> list[Layer]:
    """The layers of a U-Net generator, in PyTorch's order: down through its nested levels and back up."""
    ngf, n_downs, bias = options["ngf"], options["n_downs"], options["norm"] == "instance"
    filters = [ngf * min(2**i, 8) for i in range(n_downs)]
    level = "model.model"
    downs = [_conv(f"{level}.0", "down1", options["input_channels"], ngf, 4, bias=bias)]
    ups = [_transposed_conv(f"{level}.3", "up1", 2 * ngf, options["output_channels"], 4)]
    for i in range(2, n_downs + 1):
        # The outermost level begins with its convolution, all others with an activation. The innermost level contains
        # neither a norm on the way down nor another level, so its transposed convolution comes two modules earlier.
        level += ".1.model" if i == 2 else ".3.model"
        outer, inner, innermost = filters[i - 2], filters[i - 1], i == n_downs
        downs.append(_conv(f"{level}.1", f"down{i}", outer, inner, 4, bias=bias))
        if not innermost:
            downs.append(_norm(f"{level}.2", f"down{i}", inner))
        number = 3 if innermost else 5
        up = _transposed_conv(f"{level}.{number}", f"up{i}", inner if innermost else 2 * inner, outer, 4, bias=bias)
        ups = [up, _norm(f"{level}.{number + 1}", f"up{i}", outer), *ups]
    return downs + ups


def _list_patch_layers(options: Options) -> list[Layer]:
    """The layers of a PatchGAN discriminator, in PyTorch's order."""
    ndf, n_layers, bias = options["ndf"], options["n_layers"], options["norm"] == "instance"
    layers = [_conv("model.0", "layer0", options["input_channels"], ndf, 4)]
    filters = [ndf * min(2**i, 8) for i in range(n_layers + 1)]
    # With a blur, each layer of stride 2 has one more module.
    modules, last = (4, 4 * n_layers + 2) if _has_blur(options, "down") else (3, 3 * n_layers + 2)
    for i in range(1, n_layers + 1):
        layers.append(_conv(f"model.{modules * i - 1}", f"layer{i}", filters[i - 1], filters[i], 4, bias=bias))
        layers.append(_norm(f"model.{modules * i}", f"layer{i}", filters[i]))
    return [*layers, _conv(f"model.{last}", "head", filters[-1], 1, 4)]


def _list_pixel_layers(options: Options) -> list[Layer]:
    """The layers of a pixel discriminator, in PyTorch's order."""
    ndf, bias = options["ndf"], options["norm"] == "instance"
    return [
        _conv("net.0", "layer0", options["input_channels"], ndf, 1),
        _conv("net.2", "layer1", ndf, 2 * ndf, 1, bias=bias),
        _norm("net.3", "layer1", 2 * ndf),
        _conv("net.5", "head", 2 * ndf, 1, 1, bias=bias),
    ]


_LIST_LAYERS: dict[str, dict[str, Callable[[Options], list[Layer]]]] = {
    "generator": {"resnet": _list_resnet_layers, "unet": _list_unet_layers},
    "discriminator": {"patch": _list_patch_layers, "pixel": _list_pixel_layers},
}


def _list_layers(options: Options) -> list[Layer]:
    """The layers of a network, in PyTorch's order; UserError if the authors' code has no such network."""
    kind = options["kind"]
    foreign = [f"{kind}={options[kind]}"] if options[kind] not in _LIST_LAYERS[kind] else []
    if options.get("norm_affine"):
        foreign.append("norm_affine")
    if kind == "generator" and options.get("upsample", "transpose") != "transpose":
        foreign.append(f"upsample={options['upsample']}")
    if foreign:
        raise UserError(f"--{foreign[0]} does not exist in the authors' code, so the weights cannot be converted")
    return _LIST_LAYERS[kind][options[kind]](options)


def _make_filters(options: Options) -> dict[str, np.ndarray]:
    """The fixed filters of the blurs, which PyTorch's state_dict also holds: {key: array (channels, 1, side, side)}.

    Each is the outer product of a row of Pascal's triangle with itself, scaled to sum 1, or to sum 4 for a blur that
    doubles the size.
    """
    places: dict[str, tuple[int, int]] = {}
    if options["kind"] == "generator" and options["generator"] == "resnet":
        places = _ResnetPlaces(options).filters
    elif options["kind"] == "discriminator" and _has_blur(options, "down"):
        places = {f"model.{4 * i + 2}.filt": (options["ndf"] * min(2**i, 8), 3) for i in range(options["n_layers"])}
    arrays = {}
    for key, (channels, side) in places.items():
        row = np.array({3: (1, 2, 1), 4: (1, 3, 3, 1)}[side], np.float32)
        kernel = np.outer(row, row) / row.sum() ** 2 * (4 if side == 4 else 1)
        arrays[key] = np.array(np.broadcast_to(kernel, (channels, 1, side, side)), np.float32)
    return arrays


def _list_weights(layers: Iterable[Layer], norm: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{PyTorch key: (LAYER/WEIGHT, shape in PyTorch)} of all weights except num_batches_tracked."""
    entries: dict[str, tuple[str, tuple[int, ...]]] = {}
    for layer in layers:
        if len(layer.shape) == 4:
            entries[f"{layer.key}.weight"] = (f"{layer.name}/kernel", layer.shape)
            if layer.bias:
                entries[f"{layer.key}.bias"] = (f"{layer.name}/bias", (layer.bias,))
        elif norm == "batch":
            for theirs, ours in _BATCH_NORM.items():
                entries[f"{layer.key}.{theirs}"] = (f"{layer.name}/{ours}", layer.shape)
    return entries


def _drop_statistics(
    state_dict: Mapping[str, np.ndarray], layers: Iterable[Layer], norm: str
) -> dict[str, np.ndarray]:
    """Drops num_batches_tracked of batch norms, and the running statistics of instance norms, which old PyTorch had."""
    dropped = {"instance": _RUNNING, "batch": ("num_batches_tracked",), "none": ()}[norm]
    keys = {f"{layer.key}.{name}" for layer in layers if len(layer.shape) == 1 for name in dropped}
    return {key: value for key, value in state_dict.items() if key not in keys}


def _require_fit(given: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], options: Options) -> None:
    """Raises UserError unless the arrays `given` have exactly the `expected` names and shapes."""
    shapes = {name: tuple(np.shape(array)) for name, array in given.items()}
    problems = {
        "missing": [name for name in expected if name not in shapes],
        "unexpected": [name for name in shapes if name not in expected],
        "wrong shape": [
            f"{name} {shapes[name]} instead of {shape}" for name, shape in expected.items()
            if shapes.get(name, shape) != shape
        ],
    }
    if any(problems.values()):
        network = options[options["kind"]]
        described = ", ".join(f"{name}={options[name]}" for name in _DESCRIBING[network] if name in options)
        text = "; ".join(f"{problem}: {_join_names(names)}" for problem, names in problems.items() if names)
        raise UserError(f"the weights do not fit a {network} {options['kind']} with {described}; {text}")


def _join_names(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def to_keras(state_dict: Mapping[str, np.ndarray], options: Options) -> dict[str, np.ndarray]:
    """Converts a PyTorch state_dict to {"stem_conv/kernel": array}, the names of `networks.weights.name_weights`.

    Args:
      state_dict: {key: array} in PyTorch's shapes.
      options: description of the network, as `infer_architecture` returns it.

    Raises:
      UserError: keys are missing or unexpected, or shapes are wrong; the message names them.
    """
    layers = _list_layers(options)
    entries = _list_weights(layers, options["norm"])
    given = _drop_statistics(state_dict, layers, options["norm"])
    for key, expected in _make_filters(options).items():
        found = np.asarray(given.pop(key, expected))
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=1e-5):
            raise UserError(f"{key} is not the blur filter of the authors' code, so the weights cannot be converted")
    _require_fit(given, {key: shape for key, (_, shape) in entries.items()}, options)
    arrays = {name: np.asarray(given[key]) for key, (name, _) in entries.items()}
    return {name: np.ascontiguousarray(a.transpose(_TO_KERAS)) if a.ndim == 4 else a for name, a in arrays.items()}


def to_pytorch(named_arrays: Mapping[str, np.ndarray], options: Options) -> dict[str, np.ndarray]:
    """Converts {"stem_conv/kernel": array} to a PyTorch state_dict, {key: array} in PyTorch's order.

    Batch norms get num_batches_tracked = 0 (int64), because Keras does not count batches. PyTorch refuses a state_dict
    without num_batches_tracked, but does not use this count with the authors' momentum.

    Raises:
      UserError: names are missing or unexpected, shapes are wrong, or the authors' code has no such network.
    """
    entries = _list_weights(_list_layers(options), options["norm"])
    shapes = {
        name: tuple(shape[axis] for axis in _TO_KERAS) if len(shape) == 4 else shape for name, shape in entries.values()
    }
    _require_fit(named_arrays, shapes, options)
    state_dict = {}
    for key, (name, _) in entries.items():
        array = np.asarray(named_arrays[name])
        state_dict[key] = np.ascontiguousarray(array.transpose(_TO_PYTORCH)) if array.ndim == 4 else array
        if key.endswith("running_var"):
            state_dict[key.replace("running_var", "num_batches_tracked")] = np.array(0, np.int64)
    return state_dict | _make_filters(options)


def infer_architecture(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Infers which network a PyTorch state_dict belongs to; returns its options (see the module's docstring).

    Options that the weights do not determine have the authors' defaults: reflection padding, and no dropout in a
    U-Net, because dropout layers change no keys. Reads only some of the keys; `to_keras` reports missing and unexpected
    keys.

    Raises:
      UserError: the state_dict does not match any of the authors' networks; the message says why.
    """
    shapes = {key: tuple(np.shape(value)) for key, value in state_dict.items()}
    if any(".conv_block." in key for key in shapes):
        options = _infer_resnet(shapes)
    elif "model.model.0.weight" in shapes:
        options = _infer_unet(shapes)
    elif "net.0.weight" in shapes or "model.0.weight" in shapes:
        options = _infer_discriminator(shapes)
    else:
        known = "ResNet or U-Net generator, patch or pixel discriminator"
        raise UserError(f"the weights belong to no known network ({known}); keys: {_join_names([*shapes]) or 'none'}")
    return options


def _infer_resnet(shapes: Shapes) -> dict[str, Any]:
    ngf, input_channels, *_ = _get_kernel_shape(shapes, "model.1")
    n_blocks = len({key.split(".")[1] for key in shapes if ".conv_block." in key})
    options: dict[str, Any] = {"ngf": ngf, "n_blocks": n_blocks}
    sides = {shape[-1] for key, shape in shapes.items() if key.endswith(".filt")}
    if sides:
        options["antialias"] = {(True, True): "both", (True, False): "down"}.get((3 in sides, 4 in sides), "up")
    places = _ResnetPlaces(options)
    block = f"model.{places.first_block}.conv_block"
    convs = [n for n in range(9) if len(shapes.get(f"{block}.{n}.weight", ())) == 4]
    if len(convs) != 2 or convs[0] > 1:
        raise UserError(f"the weights look like a ResNet generator's, but {block} is not one of its blocks")
    # The second convolution of a block comes 3 modules after the first, plus 1 for padding and 1 for dropout.
    has_padding, dropout = convs[0], convs[1] - convs[0] > 3 + convs[0]
    return {
        "kind": "generator", "generator": "resnet", **options,
        "norm": _infer_norm(shapes, "model.1", "model.2"), "padding": "reflect" if has_padding else "zero",
        "dropout": dropout, "upsample": "transpose",
        "input_channels": input_channels, "output_channels": _get_kernel_shape(shapes, f"model.{places.head}")[0],
    }


def _infer_unet(shapes: Shapes) -> dict[str, Any]:
    ngf, input_channels, *_ = _get_kernel_shape(shapes, "model.model.0")
    return {
        "kind": "generator", "generator": "unet", "ngf": ngf, "n_downs": max(5, _count_kernels(shapes) // 2),
        "norm": _infer_norm(shapes, "model.model.1.model.1", "model.model.1.model.2"), "dropout": False,
        "input_channels": input_channels, "output_channels": _get_kernel_shape(shapes, "model.model.3")[1],
    }


def _infer_discriminator(shapes: Shapes) -> dict[str, Any]:
    pixel = "net.0.weight" in shapes
    module = "net" if pixel else "model"
    ndf, input_channels, *_ = _get_kernel_shape(shapes, f"{module}.0")
    # A discriminator with blurs comes from CUT, whose generator by default blurs on both ways.
    blurs = "model.2.filt" in shapes
    first = 3 if blurs else 2
    return {
        "kind": "discriminator", "discriminator": "pixel" if pixel else "patch", "ndf": ndf,
        **({} if pixel else {"n_layers": max(1, _count_kernels(shapes) - 2)}),
        **({"antialias": "both"} if blurs else {}),
        "norm": _infer_norm(shapes, f"{module}.{first}", f"{module}.{first + 1}"), "input_channels": input_channels,
    }


def _infer_norm(shapes: Shapes, conv: str, norm: str) -> str:
    """The kind of normalization, from the keys of the module `norm` and of the convolution `conv` before it."""
    # The instance norms of old PyTorch have running statistics too, but no weight.
    if f"{norm}.running_mean" in shapes and f"{norm}.weight" in shapes:
        return "batch"
    return "instance" if f"{conv}.bias" in shapes else "none"


def _get_kernel_shape(shapes: Shapes, key: str) -> tuple[int, ...]:
    """The shape of the convolution kernel of module `key`; UserError if the module has none."""
    shape = shapes.get(f"{key}.weight", ())
    if len(shape) != 4:
        raise UserError(f"the weights belong to no known network: {key}.weight is not a convolution kernel")
    return shape


def _count_kernels(shapes: Shapes) -> int:
    return sum(len(shape) == 4 for key, shape in shapes.items() if not key.endswith(".filt"))
