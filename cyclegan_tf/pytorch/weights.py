"""Weights of the authors' PyTorch networks, key by key, to this package's and back; NumPy alone, no PyTorch.

Their state_dicts know a weight by its place in the modules ("model.10.conv_block.1.weight"), ours by layer
("block1a_conv/kernel", see `named_weights`). Kernels are (out, in, H, W) there, (in, out, H, W) for transposed
convolutions, and (H, W, in, out) and (H, W, out, in) here: the same transposition for both.

A network is described by a dict with the names of Config's options (one made from a whole Config will do), and:

  kind: "generator" or "discriminator"; says which of the options `generator` and `discriminator` holds.
  input_channels, output_channels: channels of the images; a discriminator has the first only.
"""

from typing import NamedTuple

import numpy as np

from cyclegan_tf.errors import UserError

_TO_KERAS = (2, 3, 1, 0)
_TO_PYTORCH = (3, 2, 0, 1)
_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_RUNNING = ("running_mean", "running_var", "num_batches_tracked")
_LISTED = 10  # Names in an error message; a wrong architecture misses hundreds.
_DESCRIBING = {
    "resnet": ("ngf", "n_blocks", "norm", "padding", "dropout", "antialias", "input_channels", "output_channels"),
    "unet": ("ngf", "n_downs", "norm", "input_channels", "output_channels"),
    "patch": ("ndf", "n_layers", "norm", "antialias", "input_channels"),
    "pixel": ("ndf", "norm", "input_channels"),
}


class Layer(NamedTuple):
    """A convolution or normalization: its place in PyTorch, its name here.

    `shape` is the kernel's in PyTorch, or (channels,) for a normalization, which has weights only as a batch norm;
    `bias` is the length of the convolution's bias, 0 where it has none.
    """

    key: str
    name: str
    shape: tuple
    bias: int = 0


def _conv(key, name, inputs, outputs, kernel, *, bias=True):
    return Layer(key, f"{name}_conv", (outputs, inputs, kernel, kernel), outputs if bias else 0)


def _transposed_conv(key, name, inputs, outputs, kernel, *, bias=True):
    return Layer(key, f"{name}_conv", (inputs, outputs, kernel, kernel), outputs if bias else 0)


def _norm(key, name, channels):
    return Layer(key, f"{name}_norm", (channels,))


def resnet_layers(options):
    """The layers of a ResNet generator, in PyTorch's order.

    Paddings and dropouts are modules of their own there, without weights but with a number; zero padding is none.
    """
    if options.get("upsample", "transpose") != "transpose":
        raise UserError(f"upsample={options['upsample']} has no counterpart in PyTorch; only transpose has")
    ngf, n_blocks, bias = options["ngf"], options["n_blocks"], options["norm"] == "instance"
    layers = [_conv("model.1", "stem", options["input_channels"], ngf, 7, bias=bias), _norm("model.2", "stem", ngf)]
    places = _ResnetPlaces(options)
    for i, number in enumerate(places.downs, 1):
        width = ngf * 2**i
        layers.append(_conv(f"model.{number}", f"down{i}", width // 2, width, 3, bias=bias))
        layers.append(_norm(f"model.{number + 1}", f"down{i}", width))
    width, padded = 4 * ngf, options["padding"] != "zero"
    numbers = {"a": int(padded), "b": 3 + 2 * padded + options["dropout"]}
    for i in range(1, n_blocks + 1):
        for half, number in numbers.items():
            block = f"model.{places.first_block + i - 1}.conv_block"
            layers.append(_conv(f"{block}.{number}", f"block{i}{half}", width, width, 3, bias=bias))
            layers.append(_norm(f"{block}.{number + 1}", f"block{i}{half}", width))
    up = _conv if _blurs(options, "up") else _transposed_conv
    for i, number in enumerate(places.ups, 1):
        width = ngf * 2 ** (2 - i)
        layers.append(up(f"model.{number}", f"up{i}", 2 * width, width, 3, bias=bias))
        layers.append(_norm(f"model.{number + 1}", f"up{i}", width))
    return [*layers, _conv(f"model.{places.head}", "head", ngf, options["output_channels"], 7)]


class _ResnetPlaces:
    """The numbers of a ResNet generator's modules in PyTorch.

    A blur is a module of its own: behind the ReLU on the way down, in front of the convolution on the way up.
    """

    def __init__(self, options):
        blur_down, blur_up = _blurs(options, "down"), _blurs(options, "up")
        self.downs = (4, 8) if blur_down else (4, 7)
        self.first_block = 12 if blur_down else 10
        end = self.first_block + options["n_blocks"]
        self.ups = (end + 1, end + 5) if blur_up else (end, end + 3)
        self.head = end + (9 if blur_up else 7)
        ngf = options["ngf"]
        # Of each blur, {its key: (channels, side)}.
        self.filters = {f"model.{n + 3}.filt": (ngf * 2**i, 3) for i, n in enumerate(self.downs, 1) if blur_down}
        self.filters |= {f"model.{n - 1}.filt": (ngf * 2 ** (3 - i), 4) for i, n in enumerate(self.ups, 1) if blur_up}


def _blurs(options, way):
    """Whether the network is anti-aliased on its `way` down or up."""
    return options.get("antialias", "none") in (way, "both")


def unet_layers(options):
    """The layers of a U-Net generator, in PyTorch's order: its levels are nested, down to the innermost and back up."""
    ngf, n_downs, bias = options["ngf"], options["n_downs"], options["norm"] == "instance"
    filters = [ngf * min(2**i, 8) for i in range(n_downs)]
    level = "model.model"
    downs = [_conv(f"{level}.0", "down1", options["input_channels"], ngf, 4, bias=bias)]
    ups = [_transposed_conv(f"{level}.3", "up1", 2 * ngf, options["output_channels"], 4)]
    for i in range(2, n_downs + 1):
        # The outermost level has its convolution first, the others an activation; the innermost holds no further level
        # and has no norm on the way down, so that its way up begins two numbers earlier.
        level += ".1.model" if i == 2 else ".3.model"
        outer, inner, innermost = filters[i - 2], filters[i - 1], i == n_downs
        downs.append(_conv(f"{level}.1", f"down{i}", outer, inner, 4, bias=bias))
        if not innermost:
            downs.append(_norm(f"{level}.2", f"down{i}", inner))
        number = 3 if innermost else 5
        up = _transposed_conv(f"{level}.{number}", f"up{i}", inner if innermost else 2 * inner, outer, 4, bias=bias)
        ups = [up, _norm(f"{level}.{number + 1}", f"up{i}", outer), *ups]
    return downs + ups


def patch_layers(options):
    """The layers of a PatchGAN discriminator, in PyTorch's order."""
    ndf, n_layers, bias = options["ndf"], options["n_layers"], options["norm"] == "instance"
    layers = [_conv("model.0", "layer0", options["input_channels"], ndf, 4)]
    filters = [ndf * min(2**i, 8) for i in range(n_layers + 1)]
    # With a blur, each layer of stride 2 has one module more.
    modules, last = (4, 4 * n_layers + 2) if _blurs(options, "down") else (3, 3 * n_layers + 2)
    for i in range(1, n_layers + 1):
        layers.append(_conv(f"model.{modules * i - 1}", f"layer{i}", filters[i - 1], filters[i], 4, bias=bias))
        layers.append(_norm(f"model.{modules * i}", f"layer{i}", filters[i]))
    return [*layers, _conv(f"model.{last}", "head", filters[-1], 1, 4)]


def pixel_layers(options):
    """The layers of a pixel discriminator, in PyTorch's order."""
    ndf, bias = options["ndf"], options["norm"] == "instance"
    return [
        _conv("net.0", "layer0", options["input_channels"], ndf, 1),
        _conv("net.2", "layer1", ndf, 2 * ndf, 1, bias=bias),
        _norm("net.3", "layer1", 2 * ndf),
        _conv("net.5", "head", 2 * ndf, 1, 1, bias=bias),
    ]


_LAYERS = {
    "generator": {"resnet": resnet_layers, "unet": unet_layers},
    "discriminator": {"patch": patch_layers, "pixel": pixel_layers},
}


def network_layers(options):
    """The layers of the network that `options` describe, in PyTorch's order; UserError if the authors have no such."""
    kind = options["kind"]
    wrong = "norm_affine" if options.get("norm_affine") else f"{kind}={options[kind]}"
    if options.get("norm_affine") or options[kind] not in _LAYERS[kind]:
        raise UserError(f"--{wrong} has no counterpart in the authors' code, which these weights would be for")
    return _LAYERS[kind][options[kind]](options)


def fixed_filters(options):
    """The blurs' filters, which PyTorch's state_dict holds beside the weights: {key: array (channels, 1, side, side)}.

    The outer product of a row of Pascal's triangle with itself, as a mean; times 4 where the blur doubles the size.
    """
    places = {}
    if options["kind"] == "generator" and options["generator"] == "resnet":
        places = _ResnetPlaces(options).filters
    elif options["kind"] == "discriminator" and _blurs(options, "down"):
        places = {f"model.{4 * i + 2}.filt": (options["ndf"] * min(2**i, 8), 3) for i in range(options["n_layers"])}
    arrays = {}
    for key, (channels, side) in places.items():
        row = np.array({3: (1, 2, 1), 4: (1, 3, 3, 1)}[side], np.float32)
        kernel = np.outer(row, row) / row.sum() ** 2 * (4 if side == 4 else 1)
        arrays[key] = np.ascontiguousarray(np.broadcast_to(kernel, (channels, 1, side, side)), np.float32)
    return arrays


def _entries(layers, norm):
    """{PyTorch key: (LAYER/WEIGHT, shape in PyTorch)} of all weights but the counters."""
    entries = {}
    for layer in layers:
        if len(layer.shape) == 4:
            entries[f"{layer.key}.weight"] = (f"{layer.name}/kernel", layer.shape)
            if layer.bias:
                entries[f"{layer.key}.bias"] = (f"{layer.name}/bias", (layer.bias,))
        elif norm == "batch":
            for theirs, ours in _BATCH_NORM.items():
                entries[f"{layer.key}.{theirs}"] = (f"{layer.name}/{ours}", layer.shape)
    return entries


def _without_statistics(state_dict, layers, norm):
    """`state_dict` less batch norms' num_batches_tracked and the running statistics of old PyTorch's instance norms."""
    dropped = {"instance": _RUNNING, "batch": ("num_batches_tracked",), "none": ()}[norm]
    keys = {f"{layer.key}.{name}" for layer in layers if len(layer.shape) == 1 for name in dropped}
    return {key: value for key, value in state_dict.items() if key not in keys}


def _check(given, wanted, options):
    """Raises UserError unless the arrays `given` have exactly the names and shapes `wanted`."""
    shapes = {name: tuple(np.shape(array)) for name, array in given.items()}
    problems = {
        "missing": [name for name in wanted if name not in shapes],
        "unexpected": [name for name in shapes if name not in wanted],
        "of another shape": [
            f"{name} {shapes[name]} instead of {shape}" for name, shape in wanted.items()
            if shapes.get(name, shape) != shape
        ],
    }
    if any(problems.values()):
        network = options[options["kind"]]
        described = ", ".join(f"{name}={options[name]}" for name in _DESCRIBING[network] if name in options)
        text = "; ".join(f"{what}: {_listed(names)}" for what, names in problems.items() if names)
        raise UserError(f"the weights are not those of a {network} {options['kind']} with {described}; {text}")


def _listed(names):
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def to_keras(state_dict, options):
    """A PyTorch state_dict as {"stem_conv/kernel": array}, the names of `networks.weights.named_weights`.

    Args:
      state_dict: {key: array}, each as PyTorch shapes it.
      options: the network, as `infer_architecture` describes it.

    Raises:
      UserError: keys are missing, unexpected or of another shape; the message names them.
    """
    layers = network_layers(options)
    entries = _entries(layers, options["norm"])
    given = _without_statistics(state_dict, layers, options["norm"])
    for key, expected in fixed_filters(options).items():
        found = np.asarray(given.pop(key, expected))
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=1e-5):
            raise UserError(f"{key} is not the blur filter of {expected.shape[-1]}x{expected.shape[-1]} that is known")
    _check(given, {key: shape for key, (_, shape) in entries.items()}, options)
    arrays = {ours: np.asarray(given[key]) for key, (ours, _) in entries.items()}
    return {name: np.ascontiguousarray(a.transpose(_TO_KERAS)) if a.ndim == 4 else a for name, a in arrays.items()}


def to_pytorch(named_arrays, options):
    """The reverse of `to_keras`: {key: array} in PyTorch's order.

    Batch norms get a num_batches_tracked of 0 (int64): it is not known here, and PyTorch uses it for nothing at the
    authors' momentum, but refuses a state_dict without. A network with resize_conv is a UserError.
    """
    entries = _entries(network_layers(options), options["norm"])
    shapes = {
        ours: tuple(shape[axis] for axis in _TO_KERAS) if len(shape) == 4 else shape for ours, shape in entries.values()
    }
    _check(named_arrays, shapes, options)
    state_dict = {}
    for key, (ours, _) in entries.items():
        array = np.asarray(named_arrays[ours])
        state_dict[key] = np.ascontiguousarray(array.transpose(_TO_PYTORCH)) if array.ndim == 4 else array
        if key.endswith("running_var"):
            state_dict[key.replace("running_var", "num_batches_tracked")] = np.array(0, np.int64)
    return state_dict | fixed_filters(options)


def infer_architecture(state_dict):
    """The network that a PyTorch state_dict belongs to, as the options that describe it (see the module's docstring).

    What weights cannot tell is reported as the authors' default: reflect for replicate padding, no dropout for a U-Net
    (its dropouts have no key and shift none).

    Raises:
      UserError: this is none of the authors' networks; the message says what is missing or too much.
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
        raise UserError(f"the weights are of no network known here ({known}); keys: {_listed([*shapes]) or 'none'}")
    to_keras(state_dict, options)
    return options


def _infer_resnet(shapes):
    ngf, input_channels, *_ = _kernel(shapes, "model.1")
    options = {"ngf": ngf, "n_blocks": len({key.split(".")[1] for key in shapes if ".conv_block." in key})}
    sides = {shape[-1] for key, shape in shapes.items() if key.endswith(".filt")}
    if sides:
        options["antialias"] = {(True, True): "both", (True, False): "down"}.get((3 in sides, 4 in sides), "up")
    places = _ResnetPlaces(options)
    block = f"model.{places.first_block}.conv_block"
    convs = [n for n in range(9) if len(shapes.get(f"{block}.{n}.weight", ())) == 4]
    if len(convs) != 2 or convs[0] > 1:
        raise UserError(f"the weights look like a ResNet generator's, but {block} is not one of its blocks")
    # The second convolution of a block stands 3 modules after the first, 4 with padding between, 1 more with dropout.
    padded, dropout = convs[0], convs[1] - convs[0] > 3 + convs[0]
    return {
        "kind": "generator", "generator": "resnet", **options,
        "norm": _infer_norm(shapes, "model.1", "model.2"), "padding": "reflect" if padded else "zero",
        "dropout": dropout, "upsample": "transpose",
        "input_channels": input_channels, "output_channels": _kernel(shapes, f"model.{places.head}")[0],
    }


def _infer_unet(shapes):
    ngf, input_channels, *_ = _kernel(shapes, "model.model.0")
    return {
        "kind": "generator", "generator": "unet", "ngf": ngf, "n_downs": max(5, _count_kernels(shapes) // 2),
        "norm": _infer_norm(shapes, "model.model.1.model.1", "model.model.1.model.2"), "dropout": False,
        "input_channels": input_channels, "output_channels": _kernel(shapes, "model.model.3")[1],
    }


def _infer_discriminator(shapes):
    pixel = "net.0.weight" in shapes
    module = "net" if pixel else "model"
    ndf, input_channels, *_ = _kernel(shapes, f"{module}.0")
    # CUT's has blurs, and its generator then has both kinds by default.
    blurs = "model.2.filt" in shapes
    first = 3 if blurs else 2
    return {
        "kind": "discriminator", "discriminator": "pixel" if pixel else "patch", "ndf": ndf,
        **({} if pixel else {"n_layers": max(1, _count_kernels(shapes) - 2)}),
        **({"antialias": "both"} if blurs else {}),
        "norm": _infer_norm(shapes, f"{module}.{first}", f"{module}.{first + 1}"), "input_channels": input_channels,
    }


def _infer_norm(shapes, conv, norm):
    """The normalization, from the convolution `conv` that the layer `norm` follows."""
    # Old instance norms have running statistics, too, but no scale.
    if f"{norm}.running_mean" in shapes and f"{norm}.weight" in shapes:
        return "batch"
    return "instance" if f"{conv}.bias" in shapes else "none"


def _kernel(shapes, key):
    shape = shapes.get(f"{key}.weight", ())
    if len(shape) != 4:
        raise UserError(f"the weights are of no network known here: {key}.weight is no convolution kernel")
    return shape


def _count_kernels(shapes):
    return sum(len(shape) == 4 for key, shape in shapes.items() if not key.endswith(".filt"))
