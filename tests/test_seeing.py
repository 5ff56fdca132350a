"""The measures of gradients, against cases with known answers."""

import pytest
import torch
from scipy.stats import spearmanr

from lib import attacks, checkpoints, data, models, saliency, seeing


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- measures -------------------------------------------------------------


def test_edges_lie_where_the_brightness_jumps_and_not_at_the_frame():
    x = torch.full((1, 3, 8, 8), 0.3)
    assert float(saliency.edges(x).abs().max()) == 0
    x[:, :, :, 4:] = 0.8
    edge = saliency.edges(x)[0]
    columns = edge.sum(dim=0).nonzero()[:, 0].tolist()
    assert columns == [3, 4]
    assert edge[:, 3:5].flatten().tolist() == pytest.approx([4 * 0.5] * 16)
    turned = saliency.edges(x.transpose(2, 3))[0]
    assert torch.allclose(turned, edge.T)


def test_rank_correlation_is_spearman_s_with_ties():
    a = torch.rand(5, 6, 7, generator=seeded())
    b = (a + torch.rand(5, 6, 7, generator=seeded(1))).round(decimals=1)
    found = saliency.rank_correlation(a, b)
    for k in range(5):
        right = spearmanr(a[k].flatten(), b[k].flatten()).statistic
        assert float(found[k]) == pytest.approx(right, abs=1e-6)
    assert float(saliency.rank_correlation(a, a.exp()).min()) > 1 - 1e-6
    assert float(saliency.rank_correlation(a, -a).max()) < -1 + 1e-6
    flat = torch.zeros(5, 6, 7)
    assert saliency.rank_correlation(a, flat).tolist() == [0.0] * 5


def test_strokes_are_ink_and_its_neighbours():
    x = torch.zeros(1, 1, 7, 7)
    x[0, 0, 3, 3] = 0.9
    mask = saliency.near_strokes(x)[0]
    assert int(mask.sum()) == 9 and bool(mask[2:5, 2:5].all())


def test_the_sharpest_pixels_are_those_of_the_strongest_edges():
    edge = torch.rand(3, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = saliency.sharpest(edge)
    assert mask.shape == edge.shape and mask.dtype == torch.bool
    assert mask.sum((1, 2)).tolist() == [4, 4, 4]
    for force, inside in zip(edge, mask, strict=True):
        assert force[inside].min() > force[~inside].max()
    flat = torch.zeros(1, 3, 3)
    assert saliency.sharpest(flat, 0.2).flatten().tolist() == (
        [True, True] + [False] * 7
    )
    assert saliency.sharpest(flat, 0.01).sum() == 1, "at least one"


def test_energy_inside_is_a_share_of_squares():
    force = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[1e-25, 1e-25]]])
    mask = torch.tensor([[[True, False]]] * 3)
    found = saliency.energy_inside(force, mask)
    assert found.tolist() == pytest.approx([9 / 25, 0.5, 0.5])


def test_sparsity_has_its_two_ends():
    one = torch.zeros(3, 4, 4)
    one[0, 1, 2] = 1e-20
    one[1] = 7.0
    assert saliency.sparsity(one).tolist() == pytest.approx([1, 0, 0])
    draw = torch.rand(4, 9, 9, generator=seeded())
    some = saliency.sparsity(draw)
    assert torch.allclose(some, saliency.sparsity(1e-6 * draw), atol=1e-5)
    assert bool((saliency.sparsity(draw**4) > some).all())


def test_smoothing_averages_gradients_of_noisy_copies():
    model = models.build("small_cnn", seed=0).eval()
    x = torch.rand(3, 1, 28, 28, generator=seeded())
    y = torch.arange(3)
    one = saliency.smooth_gradient(
        model, x, y, sigma=0.2, samples=2, generator=seeded(5)
    )
    draw = seeded(5)
    copies = [
        (x + 0.2 * torch.randn(x.shape, generator=draw)).clamp(0, 1)
        for _ in range(2)
    ]
    by_hand = sum(attacks.input_gradient(model, c, y) for c in copies) / 2
    assert torch.allclose(one, by_hand, atol=1e-7)
    none = saliency.smooth_gradient(model, x, y, sigma=0.0, samples=3)
    assert torch.allclose(none, attacks.input_gradient(model, x, y))


def test_pictures_of_gradients_are_cut_at_three_deviations():
    grad = torch.randn(2, 3, 16, 16, generator=seeded())
    grad[0] *= 1e-8
    grad[1, 0, 0, 0] = 100.0
    seen = saliency.shown(grad)
    assert 0 <= float(seen.min()) and float(seen.max()) == 1.0
    assert float(saliency.shown(torch.zeros(1, 3, 4, 4)).max()) == 0.5
    inside = grad[0, 0, 0, 0] / grad[0].std()
    expected = 0.5 + float(inside.clamp(-3, 3)) / 6
    assert float(seen[0, 0, 0, 0]) == pytest.approx(expected, abs=1e-5)
    small = saliency.shown(grad[:1])
    assert torch.allclose(small, saliency.shown(1e8 * grad[:1]), atol=1e-4)


# --- records --------------------------------------------------------------


@pytest.fixture
def outcome(monkeypatch):
    """``measure`` on made-up digits: one sharp, one blind network."""
    x = torch.zeros(30, 1, 28, 28)
    for k in range(30):
        x[k, 0, 4 + k % 12 : 12 + k % 12, 8:12] = 1.0
    y = torch.arange(30) % 10
    made = data.Data(
        "mnist", x, y, x, y, tuple("0123456789"), "made up", real=False
    )
    monkeypatch.setattr(data, "load", lambda name, quiet=False: made)

    class Sharp(torch.nn.Module):
        """Its gradient is proportional to the image."""

        def forward(self, x):
            half = x.flatten(1).square().sum(dim=1, keepdim=True)
            return torch.cat([-half, half.expand(-1, 9)], dim=1) / 10

    networks = {
        "a": models.build("linear", seed=0).eval(), "b": Sharp().eval(),
    }  # fmt: skip

    class Kept:
        settings = {"recipe": {"model": "linear"}}  # noqa: RUF012

    monkeypatch.setattr(
        checkpoints, "load", lambda name, device="cpu": (networks[name], Kept)
    )
    settings = seeing.Looking(
        "mnist", (("standard", "a"), ("linf", "b")), n=30, samples=2
    )
    return seeing.measure(settings)


def test_every_gradient_is_measured_with_both_controls(outcome):
    measures = outcome.values["measures"]
    assert list(measures) == ["standard", "linf", "smooth", "random"]
    assert outcome.values["n"] == 30
    for label, found in measures.items():
        assert set(found) == {
            "edges", "edges of another", "excess", "sparsity", "strokes",
            "strokes, evenly", "on edges",
        }  # fmt: skip
        assert outcome.arrays[f"gradient-{label}"].shape == (8, 1, 28, 28)
    assert outcome.arrays["images"].dtype == torch.uint8


def test_a_gradient_on_the_ink_is_found_there(outcome):
    sharp = outcome.values["measures"]["linf"]
    assert sharp["strokes"]["mean"] == pytest.approx(1, abs=1e-6)
    assert sharp["strokes, evenly"]["mean"] < 0.2
    assert sharp["excess"]["mean"] > 0.02
    gap = sharp["edges"]["mean"] - sharp["edges of another"]["mean"]
    assert sharp["excess"]["mean"] == pytest.approx(gap, abs=1e-6)


def test_differences_are_paired_with_the_standard_network(outcome):
    measures = outcome.values["measures"]
    for found in measures["standard"].values():
        assert found["more"] == found["more_error"] == 0
        assert found["larger"] == 0.5
    for name, found in measures["linf"].items():
        base = measures["standard"][name]["mean"]
        assert found["more"] == pytest.approx(found["mean"] - base, abs=1e-9)
    assert measures["linf"]["strokes"]["larger"] == 1.0


def test_the_random_control_is_another_network(outcome):
    standard, random = (
        outcome.arrays[f"gradient-{label}"] for label in ("standard", "random")
    )
    assert not torch.allclose(standard, random)

