"""Converted weights against forward passes written out from the published names alone."""

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional

from lightning_trackers.methods import conversion, load_tracker, read_checkpoint
from lightning_trackers.methods.conversion import SOURCES, convert, translated
from lightning_trackers.methods.loading import build, load_weights
from lightning_trackers.siamese import normalise
from lightning_trackers.state_dicts import check_fit

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


def resnet_state(blocks, width, expansion=4):
    """Return the weights of pysot's dilated ResNet: wide shortcuts from layer 2 on."""
    state = conv("backbone.conv1", width, 3, 7, bias=False) | norm("backbone.bn1", width)
    inputs = width
    for layer, count in enumerate(blocks, start=1):
        inner = width * 2 ** (layer - 1)
        for block in range(count):
            name = f"backbone.layer{layer}.{block}"
            shapes = ((inner, inputs, 1), (inner, inner, 3), (expansion * inner, inner, 1))
            for i, (outputs, channels, kernel) in enumerate(shapes, start=1):
                state |= conv(f"{name}.conv{i}", outputs, channels, kernel, bias=False)
                state |= norm(f"{name}.bn{i}", outputs)
            if block == 0:
                kernel = 1 if layer == 1 else 3
                state |= conv(
                    f"{name}.downsample.0", expansion * inner, inputs, kernel, bias=False
                ) | norm(f"{name}.downsample.1", expansion * inner)
            inputs = expansion * inner
    return state


def resnet(state, blocks, x):
    """Return the features of layers 2, 3 and 4: stride 8, dilation 1, 2 and 4."""

    def layer_of(name, x, norm_name, **options):
        y = functional.conv2d(x, state[f"{name}.weight"], **options)
        return batch_norm(state, norm_name, y, 1e-5)

    x = layer_of("backbone.conv1", x, "backbone.bn1", stride=2).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    found = []
    for layer, count in enumerate(blocks, start=1):
        for block in range(count):
            name = f"backbone.layer{layer}.{block}"
            dilation = {3: 2, 4: 4}.get(layer, 1)
            if block == 0:
                dilation = max(1, dilation // 2)
            stride = 2 if (layer, block) == (2, 0) else 1
            middle = {"stride": stride, "dilation": dilation}
            middle["padding"] = 0 if stride == 2 else dilation
            y = layer_of(f"{name}.conv1", x, f"{name}.bn1").relu()
            y = layer_of(f"{name}.conv2", y, f"{name}.bn2", **middle).relu()
            y = layer_of(f"{name}.conv3", y, f"{name}.bn3")
            if block == 0:
                shortcut = {} if layer == 1 else middle
                x = layer_of(f"{name}.downsample.0", x, f"{name}.downsample.1", **shortcut)
            x = (x + y).relu()
        found.append(x)
    return found[1:]


def siamrpnpp_state(blocks, width, hidden, *, weighted):
    state = resnet_state(blocks, width)
    for i in (2, 3, 4):
        neck = f"neck.downsample{i}.downsample"
        state |= conv(f"{neck}.0", hidden, 2 * width * 2**i, 1, bias=False) | norm(
            f"{neck}.1", hidden
        )
        state |= rpn_state(f"rpn_head.rpn{i}", hidden)
    if weighted:
        state["rpn_head.cls_weight"] = torch.tensor([0.5, -1.0, 1.0])
        state["rpn_head.loc_weight"] = torch.tensor([-0.5, 0.0, 2.0])
    return state


def siamrpnpp(state, blocks, z, x):
    branches = ([], [])
    both = zip((2, 3, 4), resnet(state, blocks, z), resnet(state, blocks, x), strict=True)
    for i, *levels in both:
        neck = f"neck.downsample{i}.downsample"
        kernel, features = (
            batch_norm(state, f"{neck}.1", functional.conv2d(y, state[f"{neck}.0.weight"]), 1e-5)
            for y in levels
        )
        cut = (kernel.shape[-1] - 7) // 2  # the middle 7 × 7 cells of the exemplar
        middle = kernel[..., cut : cut + 7, cut : cut + 7]
        for branch, found in zip(
            branches, rpn(state, f"rpn_head.rpn{i}", middle, features), strict=True
        ):
            branch.append(found)
    names = ("rpn_head.cls_weight", "rpn_head.loc_weight")
    equal = torch.zeros(3, dtype=torch.float64)
    return [
        torch.einsum("i,i...->...", state.get(name, equal).softmax(0), torch.stack(branch))
        for name, branch in zip(names, branches, strict=True)
    ]


@pytest.mark.parametrize("source", ["pysot_siamrpnpp", "pysot_siamrpnpp_otb"])
@torch.no_grad()
def test_pysot_siamrpnpp(source, tmp_path, monkeypatch):
    # One bottleneck a layer and few channels; the maps of names are those of ResNet-50.
    blocks, width, hidden = (1, 1, 1, 1), 4, 8
    network = dict(SOURCES[source].network)
    network["backbone"] = {"_target_": "lightning_trackers.backbones.TinyResNet", "width": width}
    network["head"] = {**network["head"], "hidden": hidden}
    small = dataclasses.replace(SOURCES[source], network=network)
    monkeypatch.setattr(conversion, "SOURCES", {source: small})
    state = siamrpnpp_state(blocks, width, hidden, weighted=source == "pysot_siamrpnpp")
    ours = converted(source, state, tmp_path)
    z, x = pixels(79), pixels(95)  # 9 and 11 cells
    found = ours(normalise(z, torch.float64), normalise(x, torch.float64))
    assert found.cls_logits.shape == (2, 5, 5, 5)
    z, x = (images.flip(1).double() for images in (z, x))  # BGR
    compare_proposals(found, *siamrpnpp(doubled(state), blocks, z, x))


@pytest.mark.parametrize("source", ["pysot_siamrpnpp", "pysot_siamrpnpp_otb"])
def test_pysot_siamrpnpp_of_full_size_fits(source, monkeypatch):
    # Every tensor shares one zero: names and shapes are what is tested.
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(1).expand(shape))
    state = siamrpnpp_state((3, 4, 6, 3), 64, 256, weighted=source == "pysot_siamrpnpp")
    weights = translated(SOURCES[source], state, "file.pth")
    with torch.device("meta"):
        network = build(SOURCES[source].network)
    check_fit(network.state_dict(), weights, "file.pth")


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
