"""The Triton kernels against the formulas in fp64, row by row; run by `test_triton_kernels`, interpreted or not."""

import math
import os

import pytest
import torch

from grape_verified import fused_linear_loss, linear_token_logps, token_entropies, token_logps
from grape_verified.logprobs import from_logits
from grape_verified.logprobs.dispatch import triton_kernels_for
from grape_verified.logprobs.tiles import SLACK, Logits, Sums

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
UNIT_ROUNDOFF = 2.0**-24
#: The interpreter truncates where the hardware rounds.
OF_HALF = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7, torch.float32: 4e-6}

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")


def normal(*shape, seed=0, dtype=torch.float32, scale=1.0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scale * values).to(dtype).to(DEVICE)


def integers(*values):
    return torch.tensor(values, device=DEVICE)


@pytest.fixture
def calls(monkeypatch):
    """The names of the kernels that were launched."""
    kernels, found = triton_kernels_for(normal(1)), []
    launch = kernels._launch

    def noted(kernel, *given, **options):
        found.append(kernel.__name__)
        launch(kernel, *given, **options)

    monkeypatch.setattr(kernels, "_launch", noted)
    return found


# -- where they are called --------------------------------------------------------------------------------------------


def test_what_has_kernels():
    x = normal(2, 3)
    assert all(triton_kernels_for(x.to(dtype)) is not None for dtype in OF_HALF)
    assert triton_kernels_for(torch.nn.Parameter(x)) is not None
    assert triton_kernels_for(x.double()) is None
    assert triton_kernels_for(torch.empty(2, device="meta")) is None or INTERPRETED
    torch.vmap(lambda row: (row, pytest.fail("Triton kernels under vmap") if triton_kernels_for(row) else None)[0])(x)


def test_every_route_calls_them(calls):
    hidden, weight = normal(3, 4).requires_grad_(), normal(9, 4, seed=1).requires_grad_()
    targets = integers(0, 8, 4)
    linear_token_logps(hidden, weight, targets).sum().backward()
    assert calls == ["add_tile_kernel", "slopes_kernel"]
    fused_linear_loss(hidden[None], weight, targets[None], lambda logps: -logps)
    assert calls[2:] == ["add_tile_kernel"]
    token_logps(weight, targets.repeat(3) % 4).sum().backward()
    token_entropies(weight).sum().backward()
    assert calls[3:] == ["softmax_kernel", "slopes_kernel"] * 2


def test_fp64_is_left_to_torch(calls):
    x = normal(3, 9, dtype=torch.float64).requires_grad_()
    token_logps(x, integers(0, 8, 4)).sum().backward()
    linear_token_logps(x, x.detach(), integers(0, 1, 2)).sum().backward()
    assert not calls


# -- tiles added to sums ----------------------------------------------------------------------------------------------


def parts(products, position, bias=None, temperature=1.0, with_entropy=True, widths=(), exponentials=False):
    """The sums after tiles of these widths, and what became of each tile, with the shift that it got."""
    sums = Sums.of_nothing(products.new_zeros(len(products)), with_entropy=with_entropy)
    start, tiles = 0, []
    for width in widths:
        stop = start + width
        tile = products[:, start:stop].clone()
        some = None if bias is None else bias[start:stop]
        sums.add(Logits(tile, some, temperature), position - start, exponentials=exponentials)
        tiles.append((start, tile, sums.shift.clone()))
        start = stop
    assert start == products.shape[1]
    return sums, tiles


def scores_of(products, bias, temperature):
    scores = products.double() if bias is None else products.double() + bias.double()
    return scores / (temperature.double()[:, None] if isinstance(temperature, torch.Tensor) else temperature)


def assert_are_the_sums(sums, scores, position, slack=SLACK):
    """Row by row, from the logits in fp64 and the shift that was chosen."""
    for row, (z, y) in enumerate(zip(scores, position.tolist(), strict=True)):
        shift = sums.shift[row].double()
        inside = 0 <= y < len(z)
        assert sums.chosen[row].item() == pytest.approx(z[y].item() if inside else -math.inf, rel=4e-7, abs=1e-6)
        others = torch.cat([z[:y], z[y + 1 :]]) if inside else z
        top = z.max()
        assert shift <= top + 1e-3 * top.abs() or top == -math.inf
        assert top <= shift + slack + 1e-3
        size = 1 + scores[row][scores[row].isfinite()].abs().max() if z.isfinite().any() else 1
        d = others - shift
        e = d.exp()
        error = 8 * UNIT_ROUNDOFF * size + 64 * UNIT_ROUNDOFF
        assert abs(sums.rest[row].double() - e.sum()) <= error * e.sum()
        if sums.spread is not None:
            d = d.clamp(min=-1e4)
            assert abs(sums.spread[row].double() - (e * d).sum()) <= error * ((e * (1 + d.abs())).sum())


WIDTHS = [(1,), (5,), (512,), (300, 213, 1), (4096, 4096), (4095, 5000, 1)]


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_of_ragged_tiles(widths, dtype):
    columns = sum(widths)
    products, bias = normal(4, columns, scale=3), normal(columns, seed=1, dtype=dtype)
    temperature = torch.tensor([0.5, 1.0, 2.0, 0.7], device=DEVICE)
    position = integers(0, columns - 1, columns + 3, -2)
    for given in ((None, 1.0), (bias, 0.7), (bias, temperature)):
        for with_entropy in (False, True):
            sums, _ = parts(products, position, *given, with_entropy, widths)
            assert_are_the_sums(sums, scores_of(products, *given), position)


@pytest.mark.parametrize("offset", [0.0, 1000.0, -30000.0])
@pytest.mark.parametrize("widths", [(7,), (300, 213, 1), (5000, 4097)])
def test_sums_of_forbidden_tokens_and_offsets(offset, widths):
    columns = sum(widths)
    products = normal(5, columns, scale=5).add_(offset)
    products[0, ::2] = -math.inf
    products[1] = -math.inf
    products[2, : columns // 2] = -math.inf
    products[3, columns // 2] += 60
    position = integers(0, 1, columns - 1, columns // 2, 0)
    sums, _ = parts(products, position, widths=widths)
    assert_are_the_sums(sums, products.double(), position)
    plain = Sums.of_nothing(products.new_zeros(5), with_entropy=True)
    plain._add(products.clone(), position)
    for found, wanted in ((sums.logps(), plain.logps()), (sums.totals(), plain.totals())):
        torch.testing.assert_close(found, wanted, equal_nan=True, rtol=2e-6, atol=2e-6 * max(1, abs(offset)))
    torch.testing.assert_close(sums.entropies(), plain.entropies(), equal_nan=True, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("widths", [(6001,), (3000, 3001)])
def test_many_small_ones_before_a_large_one(widths):
    """What was summed before the shift was raised is still worth a third of a percent."""
    products = normal(2, 6001, scale=0.1)
    products[:, -1] = 17.5
    position = integers(0, 7000)
    sums, _ = parts(products, position, widths=widths)
    assert (sums.shift == 17.5).all()
    assert_are_the_sums(sums, products.double(), position)


def test_the_shift_is_raised_only_where_a_logit_is_far_above():
    products = torch.zeros(1, 9000, device=DEVICE)
    products[:, 3000], products[:, 6000], products[:, 8999] = SLACK, SLACK + 1, SLACK + 2
    shifts = [shift.item() for _, _, shift in parts(products, integers(-1), widths=(5000, 2000, 2000))[1]]
    assert shifts == [0, SLACK + 1, SLACK + 1]


@pytest.mark.parametrize("step", [0.0, 20.0, -20.0, 1e30])
@pytest.mark.parametrize("widths", [(3 * 4096 + 5,), (2 * 4096, 4101)])
def test_a_tile_becomes_exponentials(step, widths):
    """Whatever was written before the shift was raised within the tile is rescaled."""
    columns = sum(widths)
    products = normal(3, columns).add_(step * (torch.arange(columns, device=DEVICE) // 4096))
    position = integers(7, columns - 1, 5000)
    sums, tiles = parts(products, position, with_entropy=False, widths=widths, exponentials=True)
    assert_are_the_sums(sums, products.double(), position)
    for start, tile, shift in tiles:
        scores = products[:, start : start + tile.shape[1]].double()
        for row, y in enumerate((position - start).tolist()):
            if 0 <= y < tile.shape[1]:
                scores[row, y] = -math.inf
        wanted = (scores - shift.double()[:, None]).exp()
        torch.testing.assert_close(tile.double(), wanted, rtol=1e-5, atol=1e-37)


def test_without_exponentials_nothing_is_written():
    products, position = normal(2, 600), integers(3, 700)
    _, tiles = parts(products, position, widths=(600,))
    assert torch.equal(tiles[0][1], products)


def test_no_rows():
    kernels = triton_kernels_for(normal(1))
    sums, _ = parts(normal(0, 5), integers().long(), widths=(5,))
    assert sums.rest.shape == (0,)
    assert kernels.softmax(normal(1, 0, 5), 1.0, with_spread=True)[0].shape == (0,)


# -- logits -----------------------------------------------------------------------------------------------------------


def distribution(logits, temperature):
    """log π and H in fp64, where the largest logit is left out of the sum."""
    scores = logits.double() / temperature
    logp = scores - scores.logsumexp(-1, keepdim=True)
    return logp, -(logp.exp() * logp.clamp(min=-1e4)).sum(-1)


def logits_of(kind, columns, dtype):
    z = normal(6, columns, dtype=dtype)
    if kind == "peaked":
        z = z + 20 * torch.nn.functional.one_hot(torch.arange(6, device=DEVICE) % columns, columns).to(dtype)
    elif kind == "tied":
        z = z.clamp(max=0.5)
    elif kind == "above":
        z = z + 3000
    elif kind == "below":
        z = z - 3000
    elif kind == "forbidden":
        z[:, : columns - 2] = -math.inf
    elif kind == "rising":
        z = (z.float() + torch.arange(columns, device=DEVICE) / 200).to(dtype)
    return z


KINDS = ["flat", "peaked", "tied", "above", "below", "forbidden", "rising"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [3, 700, 9001])
@pytest.mark.parametrize("dtype", list(OF_HALF))
def test_values_and_gradients_from_logits(kind, columns, dtype):
    """With the bounds that the docstrings state, and one rounding to the dtype."""
    logits = logits_of(kind, columns, dtype).requires_grad_()
    targets, upstream = torch.arange(6, device=DEVICE) % 3 + columns - 3, normal(6, seed=9)
    targets[2], upstream[3] = columns - 1, 0
    for temperature in (1.0, 0.7):
        logp, entropy = distribution(logits.detach(), temperature)
        p, kept = logp.exp(), logp.clamp(min=-1e4)
        spread = (p * kept.abs() * (kept + entropy[:, None]).abs()).sum(-1)
        chosen = logp.gather(-1, targets[:, None])[:, 0]

        logps = token_logps(logits, targets, temperature=temperature)
        error = 4 * UNIT_ROUNDOFF * (chosen.abs() + entropy + 1)
        assert ((logps.double() - chosen).abs() <= error)[chosen.isfinite()].all()
        assert (logps == chosen)[chosen.isinf()].all()
        (found,) = torch.autograd.grad(logps, logits, upstream)
        assert found.dtype == dtype
        wanted = upstream[:, None] * (torch.nn.functional.one_hot(targets, columns) - p) / temperature
        error = 4 * UNIT_ROUNDOFF * upstream.abs() * (entropy + 1) / temperature
        assert ((found.double() - wanted).abs() <= error[:, None] + OF_HALF[dtype] * wanted.abs() + 1e-7).all()

        entropies = token_entropies(logits, temperature=temperature)
        assert ((entropies.double() - entropy).abs() <= 4 * UNIT_ROUNDOFF * (1 + entropy + spread)).all()
        (found,) = torch.autograd.grad(entropies, logits, upstream)
        wanted = -upstream[:, None] * p * (kept + entropy[:, None]) / temperature
        error = 4 * UNIT_ROUNDOFF * p * ((1 + entropy[:, None] + kept.abs()) ** 2 + spread[:, None]) / temperature
        error = error * upstream[:, None].abs() + OF_HALF[dtype] * wanted.abs()
        assert ((found.double() - wanted).abs() <= error + 1e-7).all()


def test_logits_at_the_ends_of_the_range():
    lowest = torch.finfo(torch.float32).min
    logits = torch.tensor([[lowest] * 4, [lowest, -lowest, 0.0, 0.0], [-lowest] * 4], device=DEVICE)
    found = token_logps(logits, integers(0, 1, 3))
    torch.testing.assert_close(found.cpu(), torch.tensor([-math.log(4), 0.0, -math.log(4)]))
    torch.testing.assert_close(token_entropies(logits).cpu(), torch.tensor([math.log(4), 0.0, math.log(4)]))


@pytest.mark.parametrize("function", [lambda z: token_logps(z, integers(0, 1, 2)), token_entropies])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_without_an_upstream_gradient_are_not_read(function, bad):
    logits = normal(3, 700)
    logits[1] = bad
    logits.requires_grad_()
    (found,) = torch.autograd.grad(function(logits), logits, integers(1, 0, 1).float())
    assert (found[1] == 0).all()
    assert found[[0, 2]].isfinite().all()


@pytest.mark.parametrize("function", [lambda z: token_logps(z, integers(0, 1, 2)), token_entropies])
def test_many_upstream_gradients_at_once(function):
    logits = normal(3, 7).requires_grad_()
    result = function(logits)
    (batched,) = torch.autograd.grad(
        result, logits, torch.eye(3, device=DEVICE), is_grads_batched=True, retain_graph=True
    )
    torch.testing.assert_close(batched.sum(1), torch.autograd.grad(result.sum(), logits)[0])


@pytest.mark.parametrize(
    "view", [lambda x: x[:, :-1], lambda x: x.transpose(0, 1), lambda x: x[..., ::2], lambda x: x[0]]
)
def test_views(view):
    whole = normal(3, 4, 700).requires_grad_()
    logits = view(whole)
    targets = torch.zeros(logits.shape[:-1], dtype=torch.int32, device=DEVICE)
    (found,) = torch.autograd.grad(token_logps(logits, targets).sum() + token_entropies(logits).sum(), whole)
    copy = logits.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(token_logps(copy, targets).sum() + token_entropies(copy).sum(), copy)
    torch.testing.assert_close(view(found), wanted.float())


def test_they_can_be_differentiated_twice():
    logits, targets = normal(2, 5).requires_grad_(), integers(1, 4)
    exact = logits.detach().double().requires_grad_()
    for function in (lambda z: token_logps(z, targets, temperature=0.7), lambda z: token_entropies(z, temperature=0.7)):
        seconds = []
        for z in (logits, exact):
            (slope,) = torch.autograd.grad(function(z).square().sum(), z, create_graph=True)
            seconds.append(torch.autograd.grad(slope.square().sum(), z)[0])
        torch.testing.assert_close(seconds[0], seconds[1].float(), rtol=1e-4, atol=1e-6)


def test_under_vmap_they_are_left_to_torch(calls):
    logits, targets = normal(2, 3, 5), torch.zeros(2, 3, dtype=torch.long, device=DEVICE)
    inner = from_logits._TokenLogps.apply
    found = torch.vmap(lambda z, y: inner(z, y, 1.0)[0])(logits, targets)
    assert not calls
    torch.testing.assert_close(found, token_logps(logits, targets))


# -- slopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [5, 512, 4099])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_entropy", [False, True])
@pytest.mark.parametrize("given", ["nothing", "bias and temperatures"])
def test_slopes_of_a_tile(columns, dtype, with_entropy, given):
    """Each entry from the formula, whose constants are any numbers."""
    kernels = triton_kernels_for(normal(1))
    products, position = normal(4, columns, scale=3), integers(0, columns - 1, columns, -1)
    products[3, 1] = -math.inf
    bias, temperature = (None, 1.0)
    if given != "nothing":
        bias, temperature = normal(columns, seed=1, dtype=torch.bfloat16), normal(4, seed=2).exp()
    z = scores_of(products, bias, temperature)
    shift, at_target = z.logsumexp(-1).float(), normal(4, seed=3)
    a, h, entropies = normal(4, seed=4), normal(4, seed=5), normal(4, seed=6).abs()
    terms = {"slope": a, "curve": h, "entropies": entropies} if with_entropy else {}
    logp = z - shift.double()[:, None]
    kept = logp.clamp(min=-1e4)
    factor = a.double()[:, None] + h.double()[:, None] * (kept + entropies.double()[:, None]) if with_entropy else 1.0
    wanted = logp.exp() * factor
    for row, y in enumerate(position.tolist()):
        if 0 <= y < columns:
            wanted[row, y] = at_target[row]
    before = normal(4, seed=7)
    moments = before.clone()
    result = products.clone() if dtype == torch.float32 else torch.empty_like(products, dtype=dtype)
    read = (result if dtype == torch.float32 else products).unsqueeze(0)
    head = {"bias": bias, "temperature": temperature}
    kernels.slopes(read, position, at_target, result, shift=shift, moments=moments, **head, **terms)
    torch.testing.assert_close(result.double(), wanted, rtol=4 * OF_HALF[dtype], atol=1e-7)
    torch.testing.assert_close(moments.double(), before.double() + (wanted * kept).sum(-1), rtol=2e-5, atol=2e-5)


# -- routes from hidden states ----------------------------------------------------------------------------------------


def problem(dtype, columns=700):
    """Operands, and all that a head and an upstream gradient can have."""
    hidden, weight = normal(12, 6, dtype=dtype), normal(columns, 6, seed=1, dtype=dtype)
    bias, temperature = normal(columns, seed=2, dtype=dtype), normal(12, seed=3).abs() + 0.5
    weight[3], bias[5] = 0, -20
    return hidden, weight, bias, temperature, torch.arange(12, device=DEVICE) * 61 % columns


@pytest.mark.parametrize("tile", [None, (5, 300)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frozen", ["nothing", "bias", "bias and temperature"])
@pytest.mark.parametrize("with_entropy", [False, True])
def test_two_stages_against_fp64(tile, dtype, frozen, with_entropy):
    *tensors, targets = problem(dtype)
    mask, upstream = torch.arange(12, device=DEVICE) % 5 != 3, normal(2, 12, seed=4)
    upstream[:, 7] = 0
    names = ("hidden", "weight", "bias", "temperature")
    results = []
    for exact in (False, True):
        leaves = [
            (x.double() if exact else x).clone().requires_grad_(name not in frozen)
            for x, name in zip(tensors, names, strict=True)
        ]
        options = {
            "bias": leaves[2],
            "temperature": leaves[3],
            "mask": mask,
            "with_entropy": with_entropy,
            "tile": tile,
        }
        found = linear_token_logps(leaves[0], leaves[1], targets, **options)
        found = found if with_entropy else (found,)
        inputs = [x for x in leaves if x.requires_grad]
        grads = torch.autograd.grad(found, inputs, [g.to(found[0].dtype) for g in upstream[: len(found)]])
        results.append((found, grads))
    (values, gradients), (exact_values, exact_gradients) = results
    for found, wanted in zip(values, exact_values, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=2e-6, atol=1e-5)
    for found, wanted in zip(gradients, exact_gradients, strict=True):
        half = found.dtype == torch.bfloat16
        assert (found.double() - wanted).norm() <= (8e-3 if half else 4e-6) * wanted.norm()


@pytest.mark.parametrize("tile", [None, (5, 300)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_pass_against_fp64(tile, dtype):
    *tensors, targets = problem(dtype)
    results = []
    for exact in (False, True):
        hidden, weight, bias, temperature = (x.double() if exact else x.clone() for x in tensors)
        leaves = [x.requires_grad_() for x in (hidden, weight, bias)]
        options = {"bias": bias, "temperature": temperature.view(3, 4), "tile": tile}
        fused = fused_linear_loss(hidden.view(3, 4, 6), weight, targets.view(3, 4), lambda x: -x.exp() - x, **options)
        results.append((fused, torch.autograd.grad(fused.loss, leaves)))
    (found, gradients), (wanted, exact_gradients) = results
    torch.testing.assert_close(found.logps.double(), wanted.logps, rtol=2e-6, atol=1e-5)
    for one, other in zip(gradients, exact_gradients, strict=True):
        assert (one.double() - other).norm() <= (8e-3 if one.dtype == torch.bfloat16 else 4e-6) * other.norm()


def test_one_number_for_all_rows_and_a_bias_with_gaps():
    """As the gradient of a sum is, and a temperature after `expand`."""
    hidden, weight, bias, _, targets = problem(torch.float32)
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [x.to(dtype).requires_grad_() for x in (hidden, weight)]
        one, gaps = torch.tensor(0.7, dtype=dtype, device=DEVICE), torch.stack([bias, bias + 1], 1).to(dtype)[:, 1]
        options = {"bias": gaps, "temperature": one.expand(12), "with_entropy": True}
        logps, entropies = linear_token_logps(*leaves, targets, **options)
        results.append(torch.autograd.grad(logps.sum() + 2 * entropies.sum(), leaves))
    for found, wanted in zip(*results, strict=True):
        assert (found.double() - wanted).norm() <= 4e-6 * wanted.norm()


@pytest.mark.parametrize("positions", [(2, 3), (0,)])
def test_all_tokens_masked_or_none_there(positions):
    hidden, weight = normal(*positions, 4).requires_grad_(), normal(5, 4).requires_grad_()
    targets = torch.zeros(positions, dtype=torch.long, device=DEVICE)
    logps, entropies = linear_token_logps(hidden, weight, targets, mask=targets == 1, with_entropy=True)
    gradients = torch.autograd.grad(logps.sum() + entropies.sum(), (hidden, weight))
    assert not any(x.any() for x in (logps, entropies, *gradients))


def test_inputs_are_not_written():
    *tensors, targets = problem(torch.float32)
    hidden, weight, bias, temperature = tensors
    before = [x.clone() for x in tensors]
    linear_token_logps(hidden.requires_grad_(), weight, targets, bias=bias, temperature=temperature).sum().backward()
    logits = normal(3, 9).requires_grad_()
    kept = logits.detach().clone()
    token_logps(logits, integers(0, 1, 2)).sum().backward()
    assert all(torch.equal(x.detach(), y) for x, y in zip([*tensors, logits], [*before, kept], strict=True))
