"""Converted weights against forward passes written out from the published names alone."""

import copy

import pytest
import torch
from torch.nn import functional

from lightning_trackers.methods import load_tracker, read_checkpoint
from lightning_trackers.methods.conversion import convert
from lightning_trackers.methods.loading import build, load_weights
from lightning_trackers.siamese import normalise

GENERATOR = torch.Generator()


@pytest.fixture(autouse=True)
def _seed():
    GENERATOR.manual_seed(0)


def conv(name, outputs, inputs, kernel, *, bias):
    """Return random weights of a convolution under its published name."""
    weight = torch.randn(outputs, inputs, kernel, kernel, generator=GENERATOR)
    found = {f"{name}.weight": weight * (2 / (inputs * kernel**2)) ** 0.5}
    if bias:
        found[f"{name}.bias"] = torch.randn(outputs, generator=GENERATOR) * 0.2
    return found


def norm(name, channels):
    """Return random weights and statistics of a batch norm under its published name."""
    return {
        f"{name}.weight": torch.rand(channels, generator=GENERATOR) + 0.5,
        f"{name}.bias": torch.randn(channels, generator=GENERATOR) * 0.2,
        f"{name}.running_mean": torch.randn(channels, generator=GENERATOR) * 0.3,
        f"{name}.running_var": torch.rand(channels, generator=GENERATOR) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def alexnet_state(names, groups=1):
    """Return AlexNet's weights; ``names`` are those of convolution and norm of its five layers."""
    inputs, state = 3, {}
    for (conv_name, norm_name), outputs, kernel, grouped in zip(
        names,
        (96, 256, 384, 384, 256),
        (11, 5, 3, 3, 3),
        (1, groups, 1, groups, groups),
        strict=True,
    ):
        state |= conv(conv_name, outputs, inputs // grouped, kernel, bias=True)
        state |= norm(norm_name, outputs) if norm_name else {}
        inputs = outputs
    return state


def batch_norm(state, name, x, eps):
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / torch.sqrt(variance + eps)
    offset = state[f"{name}.bias"] - mean * scale
    return x * scale[:, None, None] + offset[:, None, None]


def alexnet(state, names, x, groups=1, eps=1e-5):
    for i, ((conv_name, norm_name), grouped) in enumerate(
        zip(names, (1, groups, 1, groups, groups), strict=True)
    ):
        weight, bias = state[f"{conv_name}.weight"], state[f"{conv_name}.bias"]
        x = functional.conv2d(x, weight, bias, stride=2 if i == 0 else 1, groups=grouped)
        x = batch_norm(state, norm_name, x, eps) if norm_name else x
        x = functional.max_pool2d(x, 3, 2) if i < 2 else x
        x = x.relu() if i < 4 else x
    return x


def rpn_state(name, channels, anchors=5):
    state = {}
    for branch, outputs in (("cls", 2 * anchors), ("loc", 4 * anchors)):
        for part in ("conv_kernel", "conv_search"):
            state |= conv(f"{name}.{branch}.{part}.0", channels, channels, 3, bias=False)
            state |= norm(f"{name}.{branch}.{part}.1", channels)
        state |= conv(f"{name}.{branch}.head.0", channels, channels, 1, bias=False)
        state |= norm(f"{name}.{branch}.head.1", channels)
        state |= conv(f"{name}.{branch}.head.3", outputs, channels, 1, bias=True)
    return state


def rpn(state, name, z, x):
    """Return the raw outputs of both branches, one pair after the other."""
    found = []
    for branch in ("cls", "loc"):
        adjusted = []
        for part, features in (("conv_kernel", z), ("conv_search", x)):
            y = functional.conv2d(features, state[f"{name}.{branch}.{part}.0.weight"])
            adjusted.append(batch_norm(state, f"{name}.{branch}.{part}.1", y, 1e-5).relu())
        pairs = zip(*adjusted, strict=True)
        y = torch.stack(
            [functional.conv2d(b[None], k[:, None], groups=len(k))[0] for k, b in pairs]
        )
        y = functional.conv2d(y, state[f"{name}.{branch}.head.0.weight"])
        y = batch_norm(state, f"{name}.{branch}.head.1", y, 1e-5).relu()
        head = f"{name}.{branch}.head.3"
        found.append(functional.conv2d(y, state[f"{head}.weight"], state[f"{head}.bias"]))
    return found


def compare_proposals(proposals, cls, loc):
    """Compare with two logits an anchor, background first, and four planes of offsets."""
    b, _, h, w = cls.shape
    probability = cls.reshape(b, 2, -1, h, w).softmax(dim=1)[:, 1]
    same(proposals.cls_logits.sigmoid(), probability)
    same(proposals.box_deltas, loc.reshape(b, 4, -1, h, w).permute(0, 2, 3, 4, 1))


def same(ours, reference):
    # The converted weights are rounded to float32, and pixels amplify that.
    torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5 * float(reference.abs().max()))


def pixels(size):
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=GENERATOR)


def converted(source, content, folder):
    """Return the network that a published file becomes, in double precision."""
    torch.save(content, folder / "published.pth")
    convert(source, folder / "published.pth", folder / "ours.pt")
    recipe, weights = read_checkpoint(folder / "ours.pt")
    network = build(recipe["network"])
    load_weights(network, weights, "ours.pt")
    return network.double().eval()


def doubled(state):
    return {name: value.double() for name, value in state.items()}


LEGACY = [(f"backbone.features.{c}", f"backbone.features.{n}") for c, n in ((0, 1), (4, 5), (8, 9))]
LEGACY += [(f"backbone.features.{c}", f"backbone.features.{n}") for c, n in ((11, 12), (14, 15))]
TRAINED = [(f"backbone.layer{i}.0", f"backbone.layer{i}.1") for i in range(1, 6)]
SIAMFC = [(f"backbone.conv{i}.0", f"backbone.conv{i}.1" if i < 5 else None) for i in range(1, 6)]


@pytest.fixture
def siamrpn_state():
    return alexnet_state(LEGACY) | rpn_state("rpn_head", 256)


@torch.no_grad()
def check_siamrpn(state, names, content, folder):
    network = converted("pysot_siamrpn", content, folder)
    z, x = pixels(111), pixels(127)  # 4 and 6 cells: no network here needs its usual sizes
    state = doubled(state)
    features = (alexnet(state, names, images.flip(1).double()) for images in (z, x))  # BGR
    found = network(normalise(z, torch.float64), normalise(x, torch.float64))
    assert found.cls_logits.shape == (2, 5, 3, 3)
    compare_proposals(found, *rpn(state, "rpn_head", *features))


def test_pysot_siamrpn(siamrpn_state, tmp_path):
    check_siamrpn(siamrpn_state, LEGACY, siamrpn_state, tmp_path)


def test_pysot_siamrpn_as_its_training_saves_it(tmp_path):
    # Under 'state_dict', with the prefix of a parallel training and without counters of batch norm.
    state = alexnet_state(TRAINED) | rpn_state("rpn_head", 256)
    saved = {f"module.{n}": v for n, v in state.items() if "num_batches" not in n}
    check_siamrpn(state, TRAINED, {"epoch": 20, "state_dict": saved}, tmp_path)


@torch.no_grad()
def test_siamfc_pytorch(tmp_path):
    state = alexnet_state(SIAMFC, groups=2)
    # As small as what batch norm adds to it, which differs from torch's default there.
    state["backbone.conv2.1.running_var"] *= 1e-5
    network = converted("siamfc_pytorch", state, tmp_path)
    state = doubled(state)
    z, x = pixels(111), pixels(127)
    kernels, features = (alexnet(state, SIAMFC, i.double(), groups=2, eps=1e-6) for i in (z, x))
    expected = torch.stack(
        [functional.conv2d(f[None], k[None])[0, 0] for f, k in zip(features, kernels, strict=True)]
    )
    found = network(normalise(z, torch.float64), normalise(x, torch.float64))
    assert found.shape == (2, 3, 3)
    same(found, 0.001 * expected)


def test_constants_of_the_published_tracker_go_with_the_weights(siamrpn_state, tmp_path):
    converted("pysot_siamrpn", siamrpn_state, tmp_path)
    settings = load_tracker(tmp_path / "ours.pt").settings
    # pysot experiments/siamrpn_alex_dwxcorr/config.yaml, TRACK
    assert (settings.exemplar_size, settings.search_size) == (127, 287)
    assert (settings.scale_penalty, settings.window_influence, settings.size_lr) == (
        0.16,
        0.40,
        0.30,
    )


def test_missing_and_unexpected_names_are_an_error(siamrpn_state, tmp_path):
    state = copy.copy(siamrpn_state)
    state["rpn_head.mask.weight"] = state.pop("rpn_head.cls.head.3.bias")
    with pytest.raises(ValueError, match=r"published\.pth") as caught:
        converted("pysot_siamrpn", state, tmp_path)
    assert "1 missing: rpn_head.cls.head.3.bias" in str(caught.value)
    assert "1 unexpected: rpn_head.mask.weight" in str(caught.value)
    assert not (tmp_path / "ours.pt").exists()


def test_another_architecture_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"missing: backbone\.features\.0\.weight.*unexpected"):
        converted("pysot_siamrpn", alexnet_state(SIAMFC, groups=2), tmp_path)
    with pytest.raises(ValueError, match=r"another shape: backbone\.conv2\.0\.weight"):
        converted("siamfc_pytorch", alexnet_state(SIAMFC, groups=1), tmp_path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {"a": 1.0}}])
def test_a_file_that_is_no_state_dict_is_refused(content, tmp_path):
    with pytest.raises(ValueError, match="expected a state dict"):
        converted("siamfc_pytorch", content, tmp_path)


def test_an_unknown_source_names_those_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"siamfc: no such source; there are .*siamfc_pytorch"):
        convert("siamfc", tmp_path / "a.pth", tmp_path / "b.pt")
