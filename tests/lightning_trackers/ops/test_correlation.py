import pytest
import torch

from lightning_trackers.ops import xcorr, xcorr_depthwise


def loops(search, exemplar):
    """Correlate by hand: channels summed in groups of the search's channels."""
    b, c, hx, wx = search.shape
    _, ko, hz, wz = exemplar.shape
    out = torch.zeros(b, ko // c, hx - hz + 1, wx - wz + 1, dtype=search.dtype)
    for i in range(b):
        for o in range(ko // c):
            kernel = exemplar[i, o * c : (o + 1) * c]
            for y in range(out.shape[2]):
                for x in range(out.shape[3]):
                    out[i, o, y, x] = (search[i, :, y : y + hz, x : x + wz] * kernel).sum()
    return out


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["grouped convolution", "as exported"])
def form(request, monkeypatch):
    """Compute in one of the two forms of the same function."""
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: request.param == "as exported")


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("outputs", [1, 3])
def test_xcorr_equals_loops(outputs):
    search, exemplar = draw(2, 4, 7, 6), draw(2, 4 * outputs, 3, 2)
    torch.testing.assert_close(xcorr(search, exemplar), loops(search, exemplar))


@pytest.mark.usefixtures("form")
def test_depthwise_equals_loops_channel_by_channel():
    search, exemplar = draw(2, 4, 7, 6), draw(2, 4, 3, 2)
    expected = torch.cat([loops(search[:, [c]], exemplar[:, [c]]) for c in range(4)], dim=1)
    torch.testing.assert_close(xcorr_depthwise(search, exemplar), expected)


def test_response_moves_with_the_search_region():
    search, exemplar = draw(1, 2, 9, 9), draw(1, 2, 3, 3)
    moved = torch.roll(search, shifts=(2, 1), dims=(2, 3))
    # Away from the border that roll wraps around.
    torch.testing.assert_close(
        xcorr(moved, exemplar)[..., 2:, 1:], xcorr(search, exemplar)[..., :-2, :-1]
    )


@pytest.mark.parametrize("function", [xcorr, xcorr_depthwise])
def test_batches_must_agree(function):
    with pytest.raises(ValueError, match="expected an exemplar"):
        function(draw(2, 4, 7, 7), draw(3, 4, 3, 3))
