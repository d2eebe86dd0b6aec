from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_trackers.backbones import VGG16, AlexNet, ResNet50, TinyResNet
from lightning_trackers.backbones.imagenet import load_imagenet

WIDTHS = (2, 2, 2, 2, 2)


def published_resnet(backbone):
    """What torchvision's file of the same widths holds: 1 × 1 shortcuts, a classifier."""
    state = dict(backbone.state_dict())
    for name, value in state.items():
        if name.endswith("downsample.0.weight"):
            middle = value.shape[-1] // 2
            state[name] = value[..., middle : middle + 1, middle : middle + 1].clone()
    return {**state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}


class Small(TinyResNet):
    """ResNet-50's conversion at sizes that test quickly."""

    imagenet_url = "https://example.org/small-00000000.pth"
    from_imagenet = ResNet50.from_imagenet


def small(seed=0, **arguments):
    torch.manual_seed(seed)
    return Small(2, **arguments)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "resnet50.pth"
    torch.save(published_resnet(small()), path)
    return path


def test_alexnet_s_published_names(tmp_path):
    source, target = AlexNet(widths=WIDTHS), AlexNet(widths=WIDTHS)
    published = {k.replace("layers.", "features."): v for k, v in source.state_dict().items()}
    torch.save(published, tmp_path / "alexnet.pth")
    load_imagenet(target, tmp_path / "alexnet.pth")
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


def test_resnet_s_1x1_shortcuts_compute_the_same_as_the_middle_of_3x3_ones(file):
    target = small(seed=1).eval()
    load_imagenet(target, file)
    features = torch.randn(1, 8, 9, 9, generator=torch.Generator().manual_seed(2))
    shortcut = target.layer2[0].downsample[0]
    by_1x1 = nn.functional.conv2d(
        features, published_resnet(target)["layer2.0.downsample.0.weight"]
    )
    with torch.no_grad():
        # Stride 2 without padding: the window's middle lies on the odd cells.
        torch.testing.assert_close(shortcut(features), by_1x1[..., 1::2, 1::2])
    expected = small().state_dict()
    for name, value in target.state_dict().items():
        if not name.endswith("downsample.0.weight"):
            assert torch.equal(value, expected[name]), name


def test_files_without_batch_counters_load(tmp_path, file):
    state = torch.load(file)
    old = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "old.pth")
    load_imagenet(small(seed=1), tmp_path / "old.pth")


def test_layers_that_are_not_made_fall_away(file):
    target = small(seed=1, outputs=(2, 3))
    load_imagenet(target, file)
    assert torch.equal(target.layer3[0].conv2.weight, small().layer3[0].conv2.weight)


def test_vgg_takes_what_it_is_made_of():
    published = {f"features.{i}.{p}": torch.zeros(1) for i in (0, 2, 26, 28) for p in ("weight",)}
    published |= {f"classifier.{i}.weight": torch.zeros(1) for i in (0, 3, 6)}
    kept = VGG16(outputs=("conv5_2",)).from_imagenet(published)
    assert sorted(kept) == ["features.0.weight", "features.2.weight", "features.26.weight"]


def test_a_missing_an_extra_and_a_misshapen_weight_are_named(tmp_path, file):
    state = torch.load(file)
    del state["layer3.0.conv1.weight"]
    state["layer9.weight"] = torch.zeros(1)
    state["bn1.bias"] = torch.zeros(5)
    torch.save(state, file)
    target = small(seed=1)
    before = {n: v.clone() for n, v in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"resnet50\.pth for Small") as caught:
        load_imagenet(target, file)
    for part in (
        "1 missing: layer3.0.conv1.weight",
        "1 unexpected: layer9.weight",
        "1 of another shape: bn1.bias (5,) instead of (2,)",
    ):
        assert part in str(caught.value)
    assert all(torch.equal(v, before[n]) for n, v in target.state_dict().items())


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("content", [Evil(), [torch.zeros(1)], {"state_dict": {}}])
def test_what_is_not_tensors_is_refused_and_not_executed(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth"):
        load_imagenet(small(), "weights.pth")
    assert not Path("executed").exists()


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_imagenet(small(), tmp_path / "none.pth")


def test_nothing_is_downloaded_unless_asked(monkeypatch, file):
    asked = []

    def hub(url, **options):
        asked.append((url, options["check_hash"], options["weights_only"]))
        return torch.load(file)

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", hub)
    target = small(seed=1)
    load_imagenet(target, file)
    assert asked == []
    load_imagenet(target, "download")
    assert asked == [(Small.imagenet_url, True, True)]
    assert torch.equal(target.conv1.weight, small().conv1.weight)
    with pytest.raises(ValueError, match="nobody hosts any for AlexNet"):
        load_imagenet(AlexNet(widths=WIDTHS), "download")
