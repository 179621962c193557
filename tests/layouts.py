"""Names and shapes of the tensors in published weights files, written from scratch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

ORGANS = (
    "lits", "prostate", "brain", "hepatic_vessel", "spleen", "pancreas", "left_atrial",
    "hippocampus",
)  # fmt: skip


def batch_norm(name, channels):
    rows = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{row}": (channels,) for row in rows} | {
        f"{name}.num_batches_tracked": ()
    }


def densenet121():
    """Names of the encoder's 725 tensors, without prefix."""
    found = {"features.conv0.weight": (64, 3, 7, 7)} | batch_norm("features.norm0", 64)
    width = 64
    for block, layers in enumerate((6, 12, 24, 16), 1):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            found |= batch_norm(f"{name}.norm1", width)
            found[f"{name}.conv1.weight"] = (128, width, 1, 1)
            found |= batch_norm(f"{name}.norm2", 128)
            found[f"{name}.conv2.weight"] = (32, 128, 3, 3)
            width += 32
        if block < 4:
            name = f"features.transition{block}"
            found |= batch_norm(f"{name}.norm", width)
            found[f"{name}.conv.weight"] = (width // 2, width, 1, 1)
            width //= 2
    return found | batch_norm("features.norm5", width)


def hydra_decoder(name, *, transposed=False):
    found = {}
    widths = (1024, 256, 128, 64, 32, 16)
    for i, (wide, narrow) in enumerate(pairwise(widths)):
        block = f"{name}.blocks.{i}"
        found[f"{block}.upconv.weight"] = (wide, wide // 2, 2, 2)
        found[f"{block}.upconv.bias"] = (wide // 2,)
        first = wide // 2 if transposed else wide
        for place, c_in in ((0, first), (3, narrow)):
            found[f"{block}.conv.conv.{place}.weight"] = (narrow, c_in, 3, 3)
            found[f"{block}.conv.conv.{place}.bias"] = (narrow,)
            found |= batch_norm(f"{block}.conv.conv.{place + 1}", narrow)
    return found


def hydra_heads():
    return {
        f"segmentation_head_{n}_class.conv.{part}": shape
        for n in (2, 3)
        for part, shape in (("weight", (n, 16, 3, 3)), ("bias", (n,)))
    }


def hydranet(organs=ORGANS):
    found = {f"encoder.{name}": shape for name, shape in densenet121().items()}
    for organ in organs:
        found |= hydra_decoder(f"decoder_{organ}")
    return found | hydra_heads()


def hydranet_transfer():
    found = {f"encoder.{name}": shape for name, shape in densenet121().items()}
    return found | hydra_decoder("decoder", transposed=True) | hydra_heads()


def dense_block(name, c_in, n, *, norms=True, squeeze=False):
    found = {}
    for i, size in enumerate((5, 5, 1)):
        seen = c_in + i * n
        found[f"{name}.conv{i + 1}.weight"] = (n, seen, size, size)
        found[f"{name}.conv{i + 1}.bias"] = (n,)
        if norms:
            found |= batch_norm(f"{name}.batchnorm{i + 1}", seen)
    found[f"{name}.prelu.weight"] = (1,)
    if squeeze:
        found |= {
            f"{name}.SELayer.cSE.fc1.weight": (n // 2, n),
            f"{name}.SELayer.cSE.fc1.bias": (n // 2,),
            f"{name}.SELayer.cSE.fc2.weight": (n, n // 2),
            f"{name}.SELayer.cSE.fc2.bias": (n,),
            f"{name}.SELayer.sSE.conv.weight": (1, n, 1, 1),
            f"{name}.SELayer.sSE.conv.bias": (1,),
        }
    return found


def _layers(name, sizes):
    wide, narrow, classes = sizes
    return {
        f"{name}.0.weight": (narrow, wide), f"{name}.0.bias": (narrow,),
        f"{name}.1.weight": (1,),
        f"{name}.2.weight": (classes, narrow), f"{name}.2.bias": (classes,),
    }  # fmt: skip


def quicknat(channels=7, classes=2, n=64, *, squeeze=False, last="classifier"):
    found = {}
    for level in range(1, 5):
        c_in = channels if level == 1 else n
        found |= dense_block(f"encode{level}", c_in, n, squeeze=squeeze)
    found |= dense_block("bottleneck", n, n, squeeze=squeeze)
    for level in range(1, 5):
        found |= dense_block(f"decode{level}", 2 * n, n, squeeze=squeeze)
    return found | {
        f"{last}.conv.weight": (classes, n, 1, 1),
        f"{last}.conv.bias": (classes,),
    }


def quickfcn(n=64, flat=40_000):
    return quicknat(n=n, last="segmenter") | _layers("classifier", (flat, 25, 3))


def quickfcn_classifier(n=64, flat=40_000):
    return {
        name: shape
        for name, shape in quickfcn(n, flat).items()
        if not name.startswith(("decode", "segmenter"))
    }


def softquickfcn(n=32, flat=80_000):
    found = {
        f"cross{place}{way}": (1, n, 1, 1)
        for place in "123b"
        for way in ("ss", "sc", "cc", "cs")
    }
    for level in (1, 2, 3):
        for stream in ("seg", "class"):
            c_in = 7 if level == 1 else n
            found |= dense_block(f"encode{level}_{stream}", c_in, n, norms=False)
    for stream in ("seg", "class"):
        found |= dense_block(f"bottleneck_{stream}", n, n, norms=False)
    for level in (1, 2, 3):
        found |= dense_block(f"decode{level}_seg", 2 * n, n, norms=False)
    found |= {
        "classifier_seg.conv.weight": (2, n, 1, 1),
        "classifier_seg.conv.bias": (2,),
    }
    return found | _layers("classifier_class", (flat, 25, 3))


def resultnet():
    found = {"conv1.weight": (64, 3, 7, 7)} | batch_norm("bn1", 64)
    wide = 64
    for layer, width in enumerate((64, 128, 256, 512), 1):
        for block in (0, 1):
            name = f"layer{layer}.{block}"
            found[f"{name}.conv1.weight"] = (width, wide, 3, 3)
            found |= batch_norm(f"{name}.bn1", width)
            found[f"{name}.conv2.weight"] = (width, width, 3, 3)
            found |= batch_norm(f"{name}.bn2", width)
            if wide != width:
                found[f"{name}.downsample.0.weight"] = (width, wide, 1, 1)
                found |= batch_norm(f"{name}.downsample.1", width)
            wide = width
    return found | {"fc.weight": (3, 512), "fc.bias": (3,)}


def keras_conv(layer, c_in, c_out, size):
    return {f"{layer}/kernel": (size, size, c_in, c_out), f"{layer}/bias": (c_out,)}


def keras_norm(layer, channels):
    rows = ("gamma", "beta", "moving_mean", "moving_variance")
    return {f"{layer}/{row}": (channels,) for row in rows}


def _unet(width, channels, head, *, norm, first):
    """Number layers as Keras does, from `first`; there the first may have no number."""
    found, convs, norms = {}, 0, 0

    def conv(c_in, c_out, size, normed):
        nonlocal convs, norms
        number = first + convs
        layer = f"conv2d_{number}" if number else "conv2d"
        convs += 1
        found.update(keras_conv(layer, c_in, c_out, size))
        if normed:
            norms += 1
            found.update(keras_norm(f"batch_normalization_{norms}", c_out))

    widths = [width * 2**level for level in range(5)]
    for c_in, c_out in zip([channels, *widths], widths, strict=False):
        conv(c_in, c_out, 3, norm)
        conv(c_out, c_out, 3, norm)
    for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True):
        conv(wide, narrow, 2, False)
        conv(2 * narrow, narrow, 3, norm)
        conv(narrow, narrow, 3, norm)
    for c_in, c_out, size, normed in head:
        conv(c_in, c_out, size, normed)
    return found


def brats_unet(width=32):
    return _unet(width, 2, [(width, 4, 1, False)], norm=False, first=0)


def muscle_unet(width=64):
    head = [(width, 2, 3, True), (2, 1, 1, False)]
    return _unet(width, 3, head, norm=True, first=1)


def filled(shapes, dtype=np.float32, seed=0):
    """Fill a layout with small numbers: variances positive, counts whole."""
    rng = np.random.default_rng(seed)
    return {
        name: np.array(0)
        if name.endswith("num_batches_tracked")
        else (
            rng.uniform(0.5, 1.5, shape)
            if name.endswith(("running_var", "moving_variance"))
            else rng.normal(0, 0.05, shape)
        ).astype(dtype)
        for name, shape in shapes.items()
    }
