"""Published weights of others: recognised, checked, and the same network afterwards."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

import layouts
from napari_hydraseg.cli import main
from napari_hydraseg.commands.convert import KINDS as OFFERED
from napari_hydraseg.core import (
    convert,
    load_checkpoint,
    network,
    save_checkpoint,
)
from napari_hydraseg.core._foreign import read_foreign
from napari_hydraseg.core.checkpoint import digest
from napari_hydraseg.core.convert import KINDS
from napari_hydraseg.core.errors import (
    CorruptWeights,
    IncompatibleWeights,
    UnknownModel,
    UnsafeWeights,
)

SMALL = {
    "quicknat": lambda: layouts.quicknat(n=8),
    "quickfcn": lambda: layouts.quickfcn(n=8, flat=8 * 4),
    "softquickfcn": lambda: layouts.softquickfcn(n=8, flat=8 * 16),
    "resultnet": layouts.resultnet,
    "hydranet": lambda: layouts.hydranet(("lits", "spleen")),
}


def write(path, tensors, **options):
    found = {name: torch.from_numpy(np.asarray(v)) for name, v in tensors.items()}
    torch.save(found, path, **options)
    return path


def write_keras(path, tensors, prefix=""):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, value in tensors.items():
            layer, _, part = name.partition("/")
            file[f"{prefix}{layer}/{layer}/{part}:0"] = value
        if prefix:
            file["optimizer_weights/iteration:0"] = np.array(3)
    return path


@pytest.mark.parametrize("kind", SMALL)
def test_each_kind_is_recognised_by_its_tensors(kind, tmp_path):
    made = convert(write(tmp_path / "w.pt", layouts.filled(SMALL[kind]())))
    assert made.card["converted"]["kind"] == kind
    assert made.card["licence"] == "not stated"
    assert "github.com" in made.card["source"]


def test_the_shell_offers_every_kind():
    assert set(OFFERED) == set(KINDS)


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_formats_and_types_of_files_make_no_difference(legacy, dtype, tmp_path):
    tensors = layouts.filled(SMALL["quicknat"](), np.float16)
    plain = convert(write(tmp_path / "a.pt", tensors))
    typed = {
        k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in tensors.items()
    }
    other = write(tmp_path / "b.pt", typed, _use_new_zipfile_serialization=not legacy)
    made = convert(other)
    assert digest(made.weights) == digest(plain.weights)
    assert made.weights["encoder.blocks.0.conv1.weight"].dtype == np.float32


def test_weights_inside_a_trainers_checkpoint_are_found(tmp_path):
    tensors = {
        k: torch.from_numpy(v) for k, v in layouts.filled(SMALL["quicknat"]()).items()
    }
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "w.pt")
    assert convert(tmp_path / "w.pt").spec.network == "quicknat"


# HydraNet ------------------------------------------------------------------------


def encoder_tensors():
    return layouts.filled(layouts.densenet121())


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.", "module.encoder."])
def test_an_encoder_comes_with_or_without_prefix(prefix, tmp_path):
    tensors = {f"{prefix}{k}": v for k, v in encoder_tensors().items()}
    extra = "" if prefix == "module." else prefix
    tensors[f"{extra}classifier.weight"] = np.zeros((1000, 1024), np.float32)
    made = convert(write(tmp_path / "w.pt", tensors))
    assert made.spec.heads == {}
    assert made.spec.options["decoders"] == "light"
    assert made.card["converted"]["ignored"] == ["encoder.classifier.weight"]
    np.testing.assert_array_equal(
        made.weights["encoder.features.conv0.weight"],
        encoder_tensors()["features.conv0.weight"],
    )


def test_early_names_of_torchvision_are_understood(tmp_path):
    def early(name):
        for part in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in name:
                name = name.replace(f".{part}.", f".{part[:4]}.{part[4]}.")
        return name

    old = {early(k): v for k, v in encoder_tensors().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    made = convert(write(tmp_path / "w.pt", old))
    plain = convert(write(tmp_path / "v.pt", encoder_tensors()))
    assert digest(made.weights) == digest(plain.weights)


def test_the_whole_hydranet_shares_its_last_convolution(tmp_path):
    tensors = layouts.filled(layouts.hydranet())
    made = convert(write(tmp_path / "w.pt", tensors))
    assert set(made.spec.heads) == set(layouts.ORGANS)
    shared = tensors["segmentation_head_2_class.conv.weight"]
    for organ in layouts.ORGANS:
        got = made.weights[f"heads.{organ}.classify.weight"]
        np.testing.assert_array_equal(got, shared)
    ignored = made.card["converted"]["ignored"]
    unused = [name for name in ignored if ".upconv." in name]
    assert len(unused) == 80
    assert sum(tensors[name].size for name in unused) == 8 * 2_271_984
    assert set(ignored) - set(unused) == {
        "segmentation_head_3_class.conv.weight",
        "segmentation_head_3_class.conv.bias",
    }
    assert any("hippocampus" in limit for limit in made.card["limits"])


def test_hydranet_computes_what_its_code_computes(tmp_path):
    """A decoder of nearest-pixel steps on the coarsest map, without skips."""
    tensors = layouts.filled(layouts.hydranet(("lits",)))
    net = network(convert(write(tmp_path / "w.pt", tensors)))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        y = net.encoder(x)[-1]
        for i in range(5):
            y = F.interpolate(y, scale_factor=2)
            for conv, norm in ((0, 1), (3, 4)):
                name = f"decoder_lits.blocks.{i}.conv.conv"
                y = F.relu(
                    _norm(
                        _conv(y, tensors, f"{name}.{conv}", 1),
                        tensors,
                        f"{name}.{norm}",
                    )
                )
        expected = _conv(y, tensors, "segmentation_head_2_class.conv", 1)
        torch.testing.assert_close(net(x)["lits"], expected, rtol=1e-4, atol=1e-4)


def test_the_transfer_model_keeps_its_transposed_convolutions(tmp_path):
    tensors = layouts.filled(layouts.hydranet_transfer())
    made = convert(write(tmp_path / "w.pt", tensors))
    assert made.spec.options["decoders"] == "transposed"
    assert "heads.target.blocks.0.upconv.weight" in made.weights
    assert not [n for n in made.card["converted"]["ignored"] if "upconv" in n]


def test_the_encoder_is_a_densenet(tmp_path):
    monai = pytest.importorskip("monai.networks.nets")
    tensors = encoder_tensors()
    theirs = monai.DenseNet121(spatial_dims=2, in_channels=3, out_channels=1)
    state = {
        (
            k.replace(".norm1.", ".layers.norm1.").replace(".norm2.", ".layers.norm2.")
            .replace(".conv1.", ".layers.conv1.").replace(".conv2.", ".layers.conv2.")
        ): torch.from_numpy(v)
        for k, v in tensors.items()
    }  # fmt: skip
    kept = {k: v for k, v in theirs.state_dict().items() if k.startswith("class_")}
    theirs.load_state_dict({**state, **kept})
    ours = network(convert(write(tmp_path / "w.pt", tensors)))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            ours.encoder(x)[-1], theirs.eval().features(x), rtol=1e-3, atol=1e-4
        )


# QuickNAT and its relatives ------------------------------------------------------


def _conv(x, t, name, pad):
    weight, bias = (
        torch.from_numpy(t[f"{name}.{part}"]) for part in ("weight", "bias")
    )
    return F.conv2d(x, weight, bias, padding=pad)


def _norm(x, t, name):
    if f"{name}.weight" not in t:
        return F.instance_norm(x)
    mean, var, weight, bias = (
        torch.from_numpy(t[f"{name}.{part}"])
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, weight, bias)


def _dense(x, t, name):
    slope = torch.from_numpy(t[f"{name}.prelu.weight"])
    for i, pad in ((1, 2), (2, 2), (3, 0)):
        y = F.prelu(_norm(x, t, f"{name}.batchnorm{i}"), slope)
        y = _conv(y, t, f"{name}.conv{i}", pad)
        x = torch.cat([x, y], 1)
    return y


def _rows(x, t, name):
    y = x.flatten(1) @ torch.from_numpy(t[f"{name}.0.weight"]).T
    y = y + torch.from_numpy(t[f"{name}.0.bias"])
    y = F.prelu(y, torch.from_numpy(t[f"{name}.1.weight"]))
    y = y @ torch.from_numpy(t[f"{name}.2.weight"]).T
    return y + torch.from_numpy(t[f"{name}.2.bias"])


def test_quickfcn_computes_what_its_code_computes(tmp_path):
    tensors = layouts.filled(SMALL["quickfcn"]())
    net = network(convert(write(tmp_path / "w.pt", tensors)))
    image = torch.randn(2, 7, 32, 32)  # a bottleneck of 2 x 2
    x, skips = image, []
    for level in (1, 2, 3, 4):
        full = _dense(x, tensors, f"encode{level}")
        x, places = F.max_pool2d(full, 2, return_indices=True)
        skips.append((full, places))
    bottleneck = y = _dense(x, tensors, "bottleneck")
    for number, (full, places) in zip((4, 1, 2, 3), reversed(skips), strict=True):
        y = torch.cat([full, F.max_unpool2d(y, places, 2)], 1)
        y = _dense(y, tensors, f"decode{number}")
    with torch.inference_mode():
        found = net(image)
    mask = _conv(y, tensors, "segmenter.conv", 0)
    torch.testing.assert_close(found["nerve"], mask, rtol=1e-4, atol=1e-5)
    kind = _rows(bottleneck, tensors, "classifier")
    torch.testing.assert_close(found["nerve_type"], kind, rtol=1e-4, atol=1e-5)


def test_softquickfcn_computes_what_its_code_computes(tmp_path):
    tensors = layouts.filled(SMALL["softquickfcn"]())
    net = network(convert(write(tmp_path / "w.pt", tensors)))
    image = torch.randn(2, 7, 32, 32)  # a bottleneck of 4 x 4

    def stitched(s, c, place):
        ss, sc, cc, cs = (
            torch.from_numpy(tensors[f"cross{place}{way}"])
            for way in ("ss", "sc", "cc", "cs")
        )
        return ss * s + sc * c, cs * s + cc * c

    s, c, skips = image, image, []
    for level in (1, 2, 3):
        full = _dense(s, tensors, f"encode{level}_seg")
        s, places = F.max_pool2d(full, 2, return_indices=True)
        c = F.max_pool2d(_dense(c, tensors, f"encode{level}_class"), 2)
        skips.append((full, places))
        s, c = stitched(s, c, level)
    s, c = _dense(s, tensors, "bottleneck_seg"), _dense(c, tensors, "bottleneck_class")
    y, c = stitched(s, c, "b")
    for number, (full, places) in zip((1, 2, 3), reversed(skips), strict=True):
        y = torch.cat([full, F.max_unpool2d(y, places, 2)], 1)
        y = _dense(y, tensors, f"decode{number}_seg")
    with torch.inference_mode():
        found = net(image)
    mask = _conv(y, tensors, "classifier_seg.conv", 0)
    torch.testing.assert_close(found["nerve"], mask, rtol=1e-4, atol=1e-4)
    kind = _rows(c, tensors, "classifier_class")
    torch.testing.assert_close(found["nerve_type"], kind, rtol=1e-4, atol=1e-4)


def test_stitches_that_were_not_saved_are_missed(tmp_path):
    tensors = layouts.filled(SMALL["softquickfcn"]())
    kept = {k: v for k, v in tensors.items() if not k.startswith("cross")}
    with pytest.raises(IncompatibleWeights, match="16 tensors"):
        convert(write(tmp_path / "w.pt", kept))


def test_a_quickfcn_may_only_classify(tmp_path):
    shapes = layouts.quickfcn_classifier(n=8, flat=8 * 4)
    made = convert(write(tmp_path / "w.pt", layouts.filled(shapes)))
    assert set(made.spec.heads) == {"nerve_type"}
    assert network(made)(torch.zeros(1, 7, 40, 50))["nerve_type"].shape == (1, 3)


def test_squeeze_and_excitation_is_used_but_in_the_bottleneck(tmp_path):
    tensors = layouts.filled(layouts.quicknat(1, 33, 8, squeeze=True))
    made = convert(write(tmp_path / "w.pt", tensors))
    ignored = made.card["converted"]["ignored"]
    assert len(ignored) == 6
    assert all(name.startswith("bottleneck.SELayer") for name in ignored)
    assert made.spec.options["squeeze"]


def test_resultnet_is_a_resnet18(tmp_path):
    monai = pytest.importorskip("monai.networks.nets")
    tensors = layouts.filled(layouts.resultnet())
    theirs = monai.resnet18(
        spatial_dims=2,
        n_input_channels=3,
        num_classes=3,
        conv1_t_stride=2,
        bias_downsample=False,
    )
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    ours = network(convert(write(tmp_path / "w.pt", tensors)))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            ours(x)["nerve_type"], theirs.eval()(x), rtol=1e-3, atol=1e-4
        )


# Keras ---------------------------------------------------------------------------


def _keras(x, t, layer, norm=None):
    kernel = torch.from_numpy(t[f"{layer}/kernel"]).permute(3, 2, 0, 1)
    low, high = (kernel.shape[2] - 1) // 2, kernel.shape[2] // 2  # "same" of TensorFlow
    y = F.conv2d(
        F.pad(x, (low, high, low, high)), kernel, torch.from_numpy(t[f"{layer}/bias"])
    )
    if norm is None:
        return y
    mean, var, gamma, beta = (
        torch.from_numpy(t[f"{norm}/{part}"])
        for part in ("moving_mean", "moving_variance", "gamma", "beta")
    )
    return F.batch_norm(F.relu(y), mean, var, gamma, beta, eps=1e-3)


@pytest.mark.parametrize("prefix", ["", "model_weights/"])
def test_the_brain_unet_computes_what_keras_computes(prefix, tmp_path):
    t = layouts.filled(layouts.brats_unet(width=4))
    made = convert(write_keras(tmp_path / "w.h5", t, prefix))
    names = ["conv2d", *(f"conv2d_{i}" for i in range(1, 23))]
    image = x = torch.randn(1, 2, 32, 32)
    skips = []
    for level in range(5):
        x = F.max_pool2d(x, 2) if level else x
        for name in names[2 * level : 2 * level + 2]:
            x = F.relu(_keras(x, t, name))
        skips.append(x)
    for step, skip in enumerate(reversed(skips[:-1])):
        up, *convs = names[10 + 3 * step : 13 + 3 * step]
        x = F.relu(_keras(F.interpolate(x, scale_factor=2), t, up))
        x = torch.cat([skip, x], 1)
        for name in convs:
            x = F.relu(_keras(x, t, name))
    with torch.inference_mode():
        found = network(made)(image)["tumour"]
    torch.testing.assert_close(found, _keras(x, t, names[-1]), rtol=1e-4, atol=1e-5)
    assert made.card["converted"]["ignored"] == (
        ["optimizer_weights/iteration:0"] if prefix else []
    )


def test_the_muscle_unet_has_norms_after_relus_and_a_sigmoid(tmp_path):
    t = layouts.filled(layouts.muscle_unet(width=4))
    made = convert(write_keras(tmp_path / "w.h5", t))
    image = x = torch.randn(1, 3, 32, 32)
    skips = []
    for level in range(5):
        x = F.max_pool2d(x, 2) if level else x
        for i in (1, 2):
            number = 2 * level + i
            x = _keras(x, t, f"conv2d_{number}", f"batch_normalization_{number}")
        skips.append(x)
    for step, skip in enumerate(reversed(skips[:-1])):
        first = 11 + 3 * step
        x = F.relu(_keras(F.interpolate(x, scale_factor=2), t, f"conv2d_{first}"))
        x = torch.cat([skip, x], 1)
        for i in (1, 2):
            norm = f"batch_normalization_{10 + 2 * step + i}"
            x = _keras(x, t, f"conv2d_{first + i}", norm)
    x = _keras(x, t, "conv2d_23", "batch_normalization_19")
    expected = torch.sigmoid(_keras(x, t, "conv2d_24"))[:, 0]
    with torch.inference_mode():
        found = network(made)(image)["structure"].softmax(1)[:, 1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_layers_that_keras_numbered_on_are_ranked(tmp_path):
    plain = layouts.filled(layouts.brats_unet(width=4))

    def later(name):
        layer, _, part = name.partition("/")
        return f"conv2d_{int(layer.removeprefix('conv2d').strip('_') or 0) + 23}/{part}"

    moved = {later(name): value for name, value in plain.items()}
    one = convert(write_keras(tmp_path / "a.h5", plain))
    two = convert(write_keras(tmp_path / "b.h5", moved))
    assert digest(one.weights) == digest(two.weights)


def test_an_hdf5_file_cannot_point_elsewhere(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_keras(tmp_path / "secret.h5", {"a/kernel": np.ones(3, np.float32)})
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["b"] = h5py.ExternalLink("secret.h5", "a")
        file.create_dataset("d/e", (3,), "f4", external=[("secret.h5", 0, 12)])
    with pytest.raises(IncompatibleWeights, match="no weights"):
        read_foreign(tmp_path / "w.h5")


# What is refused -----------------------------------------------------------------


def test_a_file_with_more_than_tensors_is_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    tensors = {
        k: torch.from_numpy(v) for k, v in layouts.filled(SMALL["quicknat"]()).items()
    }
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pt"
        torch.save(
            {**tensors, "x": Trap()}, path, _use_new_zipfile_serialization=zipped
        )
        with pytest.raises(UnsafeWeights, match="could run code"):
            convert(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content", [b"", b"no weights", b"\x89HDF\r\n\x1a\n" + b"x" * 99]
)
def test_what_is_no_weights_file_is_said_to_be_none(content, tmp_path):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises((CorruptWeights, UnsafeWeights)) as error:
        convert(tmp_path / "w.pt")
    assert str(tmp_path) not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UnknownModel):
        convert(tmp_path / "none.pt")


def test_missing_and_misshapen_tensors_are_named(tmp_path):
    tensors = layouts.filled(SMALL["quicknat"]())
    del tensors["decode1.conv2.bias"]
    with pytest.raises(IncompatibleWeights, match=r"1 tensors.*ups.1.conv2.bias"):
        convert(write(tmp_path / "a.pt", tensors))
    tensors["decode1.conv2.bias"] = np.zeros(9, np.float32)
    with pytest.raises(IncompatibleWeights, match=r"\(9,\) instead of \(8,\)"):
        convert(write(tmp_path / "b.pt", tensors))


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    tensors = layouts.filled(SMALL["quicknat"]())
    tensors["decode1.conv2.bias"][0] = np.nan
    with pytest.raises(CorruptWeights, match=r"ups\.1\.conv2\.bias"):
        convert(write(tmp_path / "w.pt", tensors))


def test_tensors_that_nobody_knows_are_listed_not_loaded(tmp_path):
    tensors = layouts.filled(SMALL["quicknat"]())
    tensors["ema.weight"] = np.ones(3, np.float32)
    made = convert(write(tmp_path / "w.pt", tensors))
    assert made.card["converted"]["ignored"] == ["ema.weight"]


def test_another_kind_is_refused_and_named(tmp_path):
    path = write(tmp_path / "w.pt", layouts.filled(SMALL["quicknat"]()))
    with pytest.raises(IncompatibleWeights, match="looks like quicknat"):
        convert(path, kind="hydranet")
    path = write(tmp_path / "v.pt", {"a": np.ones(3, np.float32)})
    with pytest.raises(IncompatibleWeights, match="no known model"):
        convert(path)


def test_a_converted_model_is_saved_and_found_again(tmp_path):
    made = convert(write(tmp_path / "patient.pt", layouts.filled(SMALL["resultnet"]())))
    save_checkpoint(made, tmp_path / "m.safetensors")
    again = load_checkpoint(tmp_path / "m.safetensors")
    assert digest(again.weights) == digest(made.weights)
    assert again.card == made.card
    assert "patient" not in json.dumps(again.card)


def test_the_shell_converts(tmp_path):
    path = write(tmp_path / "w.pt", layouts.filled(SMALL["resultnet"]()))
    out = tmp_path / "m.safetensors"
    ran = CliRunner().invoke(
        main, ["convert", str(path), "-o", str(out), "--json", "--quiet"]
    )
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["kind"] == "resultnet"
    assert found["parameters"] == 11_178_051 + 9_600  # with the norms' statistics
    assert found["ignored"] == []
    assert found["spec"]["network"] == "resnet"
    again = load_checkpoint(out)
    assert found["tensors"] == len(again.weights) == 122
    refused = CliRunner().invoke(main, ["convert", str(path), "-o", str(out)])
    assert refused.exit_code == 7
