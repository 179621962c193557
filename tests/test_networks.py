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
    WrongInput,
)
from napari_hydraseg.core.networks import (
    NETWORKS,
    MultiHead,
    classifiers,
    module_of,
    padded,
    weights_of,
)
from napari_hydraseg.core.networks._depthwise import depthwise
from napari_hydraseg.core.networks._doubled import doubled
from napari_hydraseg.core.networks._efficientnet import EfficientNetLite0
from napari_hydraseg.core.networks._instance import InstanceNorm2d
from napari_hydraseg.core.networks.unet3d import build as build_unet3d

OPTIONS = {
    "hydranet": [
        {},
        {"slices": 3, "norms": {"two": "batch"}},
        {"encoder": "densenet121"},
        {"encoder": "densenet121", "skips": False},
        {"encoder": "densenet121", "decoders": "nearest", "slices": 3},
        {"encoder": "densenet121", "decoders": "transposed"},
    ],
    "unet2d": [
        {"width": 4},
        {"width": 4, "norm": True, "narrow": True, "sigmoid": True},
        {"width": 4, "dropout": [0.1, 0.2, 0.3]},
    ],
    "unet3d": [{"width": 4, "depth": 3}, {"width": 4, "norm": "instance"}],
    "dilated": [{"width": 4}],
    "quicknat": [
        {"width": 8},
        {"width": 8, "squeeze": True, "norm": "instance", "levels": 2},
        {"width": 8, "classify": ["two"], "grid": 3},
    ],
    "crossstitch": [
        {"width": 8, "classify": ["two"], "grid": 3},
        {"width": 8, "classify": ["two"], "grid": 3, "norm": "batch", "levels": 2},
    ],
    "resnet": [{}],
}
# a network that nobody wrote options for is tried as it is
EVERY = [(name, options) for name in NETWORKS for options in OPTIONS.get(name, [{}])]
HEADS = {"one": ("background", "a"), "two": ("background", "b", "c")}


def spec_of(name, options, channels=("image",)):
    patch = (64, 64, 64)[: module_of(name).NDIM]
    return ModelSpec(name, channels, HEADS, patch, options=options)


def image_for(name, options, channels=1, size=(37, 45, 26)):
    count = channels * options.get("slices", 1)
    return torch.randn(2, count, *size[: module_of(name).NDIM])


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_every_head_answers_in_the_size_of_the_image_or_once(name, options):
    spec = spec_of(name, options)
    image = image_for(name, options)
    found = build(spec)(image)
    sizes = {
        head: () if head in classifiers(spec) else tuple(image.shape[2:])
        for head in HEADS
    }
    assert {head: tuple(v.shape) for head, v in found.items()} == {
        head: (2, len(classes), *sizes[head]) for head, classes in HEADS.items()
    }


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
    learn = torch.optim.SGD(net.parameters(), 1e-3)
    image = image_for(name, options, channels=2, size=(64, 64, 64))
    sum(logits.square().mean() for logits in net(image).values()).backward()
    idle = [k for k, p in net.named_parameters() if p.grad is None]
    assert not idle
    learn.step()
    assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_a_saved_model_gives_the_same_bits(name, options, tmp_path):
    spec = spec_of(name, options)
    net = build(spec, seed=1).eval()
    save_checkpoint(Checkpoint(spec, weights_of(net)), tmp_path / "m.safetensors")
    again = network(load_checkpoint(tmp_path / "m.safetensors"))
    image = image_for(name, options)
    with torch.inference_mode():
        ours, theirs = net(image), again(image)
    assert all(torch.equal(ours[head], theirs[head]) for head in HEADS)


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
    """Numbers of a network: parameters, and statistics as Keras counts them too."""
    return sum(
        value.numel()
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    )


def parameters(module):
    return sum(p.numel() for p in module.parameters())


ORGANS = "lits prostate brain hepatic_vessel spleen pancreas left_atrial hippocampus"
NERVE = {"nerve": 2, "kind": 3}


def test_hydranet_has_the_published_parameters():
    full = module_of("hydranet").build(
        3, dict.fromkeys(ORGANS.split(), 2), encoder="densenet121", decoders="nearest"
    )
    assert parameters(full.encoder) == 6_953_856
    shared = 290  # the published last convolution serves all eight; ours has one each
    unused = 8 * 2_271_984 + 435  # transposed convolutions, and a head for 3 classes
    assert parameters(full) - 7 * shared + unused == 53_447_381
    transfer = module_of("hydranet").build(
        3, {"uterus": 2}, encoder="densenet121", decoders="transposed"
    )
    assert parameters(transfer) + 435 == 11_390_693


@pytest.mark.parametrize(
    ("name", "options", "channels", "heads", "published"),
    [
        ("unet2d", {}, 2, {"tumour": 4}, 7_759_908),
        ("quicknat", {}, 7, {"nerve": 2}, 3_534_901),
        ("quicknat", {"classify": ["kind"]}, 7, NERVE, 4_535_005),
        ("quicknat", {"classify": ["kind"]}, 7, {"kind": 3}, 2_415_959),
        ("crossstitch", {"classify": ["kind"]}, 7, NERVE, 2_954_901 + 512),
        ("resnet", {}, 3, {"kind": 3}, 11_178_051),
        ("dilated", {"width": 32}, 1, {"gm": 2}, 126_177),
        ("dilated", {"width": 64}, 1, {"gm": 2}, 475_329),
    ],
)
def test_networks_have_the_published_parameters(
    name, options, channels, heads, published
):
    assert parameters(module_of(name).build(channels, heads, **options)) == published


def test_with_statistics_the_keras_networks_are_as_published():
    dilated, unet2d = module_of("dilated").build, module_of("unet2d").build
    assert count(dilated(1, {"gm": 2}, width=32)) == 127_585
    assert count(dilated(1, {"gm": 2}, width=64)) == 478_017
    form = {"width": 64, "norm": True, "narrow": True, "sigmoid": True}
    muscle = unet2d(3, {"muscle": 2}, **form)
    assert count(muscle) == 31_056_397
    convolutions = [p for k, p in muscle.named_parameters() if "norm" not in k]
    assert sum(p.numel() for p in convolutions) == 31_032_837


def test_squeeze_and_excitation_is_really_built():
    net = module_of("quicknat").build(1, {"brain": 33}, squeeze=True)
    unused = 4_257  # of the bottleneck, which the published code makes and never uses
    assert parameters(net) + unused == 3_555_609
    assert len(net.state_dict()) + 6 == 254


def test_unet3d_has_the_published_parameters():
    unet = build_unet3d(3, {"tissue": 3})
    # Çiçek 2016, section 2; the paper does not count its normalisation
    convolutions = [p for k, p in unet.named_parameters() if "norm" not in k]
    assert sum(p.numel() for p in convolutions) == 19_069_955


@pytest.mark.parametrize(("norm", "same"), [("batch", True), ("instance", False)])
def test_what_batch_norm_answers_does_not_depend_on_what_is_far_away(norm, same):
    net = build(spec_of("hydranet", {"norms": {"two": norm}})).eval()
    image = torch.randn(1, 1, 32, 2048)  # wider than any field of view
    other = image.clone()
    other[..., :32] += 5
    with torch.inference_mode():
        far, near = (net(x, ("two",))["two"][..., 1984:] for x in (image, other))
    assert torch.allclose(far, near, atol=1e-5) == same


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


@pytest.mark.parametrize("head", ["type", "a.b", ""])
def test_a_head_that_no_module_can_have_is_refused(head):
    with pytest.raises(WrongInput, match="called"):
        build(ModelSpec("resnet", ("image",), {head: ("a", "b")}, (64, 64)))


def test_every_network_keeps_the_contract():
    for name in NETWORKS:
        file = module_of(name)
        assert file.NDIM in (2, 3)
        assert file.STRIDE >= 1
        assert "doi" in file.SOURCE
        options = OPTIONS.get(name, [{}])[0]
        assert isinstance(build(spec_of(name, options)), MultiHead)


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


@pytest.mark.parametrize("skips", [0, 3])
def test_a_map_is_doubled_joined_and_convolved_in_one(skips):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 17, 16, requires_grad=True)
    skip = torch.randn(2, skips, 34, 32) if skips else None
    w = torch.randn(4, 5 + skips, 3, 3, requires_grad=True)
    ours = doubled(x, skip, w)
    large = F.interpolate(x, scale_factor=2.0, mode="nearest")
    joined = large if skip is None else torch.cat([large, skip], 1)
    theirs = F.conv2d(joined, w, padding=1)
    dy = torch.randn_like(ours)
    pairs = zip(
        (ours, *torch.autograd.grad(ours, (x, w), dy)),
        (theirs, *torch.autograd.grad(theirs, (x, w), dy)),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 5, 7, 6), (1, 4, 2, 2), (2, 16, 40, 40)])
def test_our_instance_norm_is_that_of_pytorch(shape):
    torch.manual_seed(0)
    theirs = torch.nn.InstanceNorm2d(shape[1], affine=True)
    ours = InstanceNorm2d(shape[1], affine=True)
    torch.nn.init.uniform_(theirs.weight)
    torch.nn.init.uniform_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    start = 3 + torch.randn(shape).contiguous(memory_format=torch.channels_last)
    found = []
    for norm in (ours, theirs):
        x = start.clone(memory_format=torch.preserve_format).requires_grad_()
        y = norm(x)
        (y * torch.linspace(0, 1, y.numel()).view(shape)).sum().backward()
        found.append((y, x.grad, norm.weight.grad, norm.bias.grad))
    assert found[0][0].is_contiguous(memory_format=torch.channels_last)
    assert type(found[0][0].grad_fn).__name__ == "_NormalisedBackward"
    pixels = start[0, 0].numel()  # that the gradients of weight and bias sum over
    for mine, other, atol in zip(
        *found, (1e-5, 1e-5, *[1e-5 * pixels] * 2), strict=True
    ):
        assert torch.allclose(mine, other, rtol=1e-4, atol=atol)


def test_our_instance_norm_leaves_other_formats_and_precisions_to_pytorch():
    norm = InstanceNorm2d(4, affine=True)
    plain = torch.randn(2, 4, 6, 6)
    low = plain.bfloat16().contiguous(memory_format=torch.channels_last)
    for x in (plain, low):
        assert torch.equal(norm(x), torch.nn.InstanceNorm2d(4, affine=True)(x))
