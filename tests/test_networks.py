"""The contract of networks, over all of them by discovery."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_hydraseg.core import (
    Checkpoint,
    ModelSpec,
    build,
    load_checkpoint,
    network,
    save_checkpoint,
)
from napari_hydraseg.core.errors import (
    CorruptWeights,
    IncompatibleWeights,
    UnknownModel,
)
from napari_hydraseg.core.networks import (
    NETWORKS,
    MultiHead,
    module_of,
    padded,
    weights_of,
)
from napari_hydraseg.core.networks._depthwise import depthwise
from napari_hydraseg.core.networks._efficientnet import EfficientNetLite0
from napari_hydraseg.core.networks.hydranet import build as build_hydranet
from napari_hydraseg.core.networks.unet3d import build as build_unet3d

OPTIONS = {
    "hydranet": [
        {},
        {"slices": 3},
        {"encoder": "densenet121"},
        {"encoder": "densenet121", "skips": False},
    ],
    "unet3d": [{"width": 4, "depth": 3}, {"width": 4, "norm": "instance"}],
}
EVERY = [(name, options) for name in NETWORKS for options in OPTIONS[name]]
HEADS = {"one": ("background", "a"), "two": ("background", "b", "c")}


def spec_of(name, options, channels=("image",)):
    patch = (64, 64, 64)[: module_of(name).NDIM]
    return ModelSpec(name, channels, HEADS, patch, options=options)


def image_for(name, options, channels=1, size=(37, 45, 26)):
    count = channels * options.get("slices", 1)
    return torch.randn(2, count, *size[: module_of(name).NDIM])


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_every_head_answers_in_the_size_of_the_image(name, options):
    net = build(spec_of(name, options))
    image = image_for(name, options)
    found = net(image)
    assert {k: v.shape[1] for k, v in found.items()} == {"one": 2, "two": 3}
    assert all(v.shape[2:] == image.shape[2:] for v in found.values())


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_a_head_can_be_asked_for_alone(name, options):
    net = build(spec_of(name, options)).eval()
    image = image_for(name, options)
    with torch.inference_mode():
        assert net(image, ("two",)).keys() == {"two"}
        torch.testing.assert_close(net(image, ("two",))["two"], net(image)["two"])


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_any_number_of_channels_works_and_every_weight_learns(name, options):
    net = build(spec_of(name, options, ("a", "b")))
    found = net(image_for(name, options, channels=2, size=(64, 64, 64)))
    sum(logits.square().mean() for logits in found.values()).backward()
    idle = [k for k, p in net.named_parameters() if p.grad is None]
    assert not idle


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_a_saved_model_gives_the_same_bits(name, options, tmp_path):
    spec = spec_of(name, options)
    net = build(spec, seed=1).eval()
    save_checkpoint(Checkpoint(spec, weights_of(net)), tmp_path / "m.safetensors")
    again = network(load_checkpoint(tmp_path / "m.safetensors"))
    image = image_for(name, options)
    with torch.inference_mode():
        assert torch.equal(net(image)["two"], again(image)["two"])


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_levels_name_every_weight_of_the_encoder_once(name, options):
    net = build(spec_of(name, options))
    named = [
        id(p)
        for level in net.encoder.levels()
        for module in level
        for p in module.parameters()
    ]
    assert sorted(named) == sorted(id(p) for p in net.encoder.parameters())
    maps = net.encoder(padded(image_for(name, options), net))
    assert len(maps) == len(net.encoder.levels())


def test_the_same_seed_builds_the_same_network():
    spec = spec_of("hydranet", {})
    one, two = (weights_of(build(spec, seed=s)) for s in (5, 5))
    assert all(np.array_equal(one[k], two[k]) for k in one)


def test_building_leaves_the_global_chance_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    build(spec_of("hydranet", {}))
    assert torch.equal(torch.rand(1), expected)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_as_published():
    densenet = build_hydranet(3, {}, encoder="densenet121").encoder
    assert count(densenet) == 6_953_856  # the published HydraNet's encoder
    unet = build_unet3d(3, {"tissue": 3})
    # Çiçek 2016, section 2; the paper does not count its normalisation
    convolutions = [p for k, p in unet.named_parameters() if "norm" not in k]
    assert sum(p.numel() for p in convolutions) == 19_069_955


def test_lite0_has_the_features_of_its_paper():
    maps = EfficientNetLite0(1)(torch.zeros(1, 1, 64, 64))
    assert [m.shape[1] for m in maps[1:]] == [16, 24, 40, 112, 320]
    assert [m.shape[2] for m in maps] == [64, 32, 16, 8, 4, 2]


def test_weights_that_do_not_fit_are_refused_with_the_difference(tiny_checkpoint):
    from dataclasses import replace

    weights = dict(tiny_checkpoint.weights)
    name = next(k for k in weights if k.endswith("classify.weight"))
    weights[name] = weights[name][:1]
    with pytest.raises(IncompatibleWeights, match="classify"):
        network(replace(tiny_checkpoint, weights=weights))
    weights[name] = np.full_like(tiny_checkpoint.weights[name], np.nan)
    with pytest.raises(CorruptWeights, match="classify"):
        network(replace(tiny_checkpoint, weights=weights))


def test_an_unknown_network_is_named():
    with pytest.raises(UnknownModel, match="hydranet"):
        build(ModelSpec("nonet", ("image",), HEADS, (64, 64)))


def test_every_network_keeps_the_contract():
    for name in NETWORKS:
        file = module_of(name)
        assert file.NDIM in (2, 3)
        assert file.STRIDE > 1
        assert "doi" in file.SOURCE
        assert isinstance(build(spec_of(name, OPTIONS[name][0])), MultiHead)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_fast_depthwise_gradients_are_the_gradients(kernel, stride):
    torch.manual_seed(0)
    padding = kernel // 2 if stride == 1 else 0
    sides = (13, 15)  # spanned exactly at stride 2
    x = torch.randn(2, 6, *sides, dtype=torch.float64, requires_grad=True)
    w = torch.randn(6, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    ours = depthwise(x, w, stride, padding)
    theirs = F.conv2d(x, w, None, stride, padding, 1, 6)
    dy = torch.randn_like(ours)
    pairs = zip(
        (ours, *torch.autograd.grad(ours, (x, w), dy)),
        (theirs, *torch.autograd.grad(theirs, (x, w), dy)),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other)
