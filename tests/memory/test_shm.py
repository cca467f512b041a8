"""SHM against its published arithmetic, and the properties of its random rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hadamem import SHM
from hadamem.memory import make_memory, parse_options
from hadamem.memory.shm import hashed_rows
from hadamem.ops.addressing import epochs, turned, turns


def released(memory: SHM, x: Tensor, rows: Tensor) -> Tensor:
    """The released forward pass (stand-alone file), with the rows of theta given: everything materialised, a loop over T."""
    H = memory.memory_size
    x = F.layer_norm(x, x.shape[-1:], memory.norm.weight, memory.norm.bias)
    k, q, v, gate, c = (F.linear(x, w) for w in memory.project.weight.split([H, H, H, 1, H]))
    k, q = torch.relu(k), torch.relu(q)
    k, q = k / (1e-5 + k.sum(-1, keepdim=True)), q / (1e-5 + q.sum(-1, keepdim=True))
    theta = memory.table[rows]
    C = 1 + torch.tanh(torch.einsum("btv,btk->btvk", theta, c))
    M, outputs = torch.zeros(len(x), H, H, dtype=x.dtype), []
    for t in range(x.shape[1]):
        M = M * C[:, t] + torch.sigmoid(gate[:, t, :, None]) * torch.einsum("bv,bk->bvk", v[:, t], k[:, t])
        outputs.append(torch.einsum("bvk,bk->bv", M, q[:, t]))
    return F.linear(torch.stack(outputs, dim=1), memory.output.weight, memory.output.bias)


@pytest.mark.parametrize("theta", ["random", "fixed"])
def test_default_is_the_released_arithmetic(theta: str) -> None:
    memory = SHM(5, 7, 12, theta=theta).double()
    x, state = torch.randn(3, 20, 5, dtype=torch.float64), memory.initial_state(3)
    clock = state["clock"][:, None] + torch.arange(20)
    rows = hashed_rows(clock, 128) if theta == "random" else torch.zeros_like(clock)
    torch.testing.assert_close(memory(x, state)[0], released(memory, x, rows), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("learned", [0.0, 3.0])
def test_a_stable_theta_never_strengthens_on_average(learned: float) -> None:
    """Over all rows and signs the mean of C is at most 1, whatever was learned and whatever x is, and 1 where v_c is 0."""
    torch.manual_seed(0)
    memory = SHM(5, 7, 6, theta="stable", rows=8).double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter += learned * torch.randn_like(parameter)
    clocks: dict[int, int] = {}
    for clock in range(1000):
        clocks.setdefault(int(hashed_rows(torch.tensor(clock), 16)), clock)
    assert len(clocks) == 16
    x = 3 * torch.randn(4, 1, 5, dtype=torch.float64)
    maps = torch.relu(memory.project(memory.norm(x)).split(memory.sizes, dim=-1)[4])
    factors = [memory._factors(maps, torch.full((4, 1), clock))[1] for clock in clocks.values()]
    mean = torch.stack([1 + torch.tanh(theta[..., None] * v_c[..., None, :]) for theta, v_c in factors]).mean(dim=0)
    assert mean.max() <= 1 + 1e-12
    assert mean.min() < 0.99
    kept = (factors[0][1] == 0)[:, :, None].expand_as(mean)
    assert kept.any()
    torch.testing.assert_close(mean[kept], torch.ones_like(mean[kept]))


def test_the_first_calibration_of_a_stable_theta_is_scaled() -> None:
    torch.manual_seed(0)
    plain, scaled = (SHM(5, 7, 6, theta="stable", heads=2, table_scale=scale) for scale in (1.0, 0.01))
    for memory in (plain, scaled):
        memory.initialise_orthogonal()
    norms = [memory.project.weight.unflatten(0, (2, -1))[:, -6:].norm() for memory in (plain, scaled)]
    torch.testing.assert_close(norms[1], 0.01 * norms[0])
    assert scaled.project.weight.norm() > 3


def test_clamped_after_each_step() -> None:
    """As the released agents of Wind and Point Robot do it: no entry grows beyond the bound, and it is read as it is kept."""
    free, bounded = SHM(5, 7, 4).double(), SHM(5, 7, 4, clamp=0.05).double()
    bounded.load_state_dict(free.state_dict())
    x, state = torch.randn(2, 1, 5, dtype=torch.float64).expand(2, 30, 5), free.initial_state(2)
    assert free(x, state)[1]["memory"].abs().max() > 0.05
    outputs, now = [], state
    for t in range(30):
        _, now = free(x[:, t : t + 1], now)
        now["memory"] = now["memory"].clamp(-0.05, 0.05)
        outputs.append(now["memory"].clone())
    y, last = bounded(x, state)
    torch.testing.assert_close(last["memory"], outputs[-1])
    normed = bounded.norm(x[:, -1])
    q = torch.relu(bounded.project(normed).split(bounded.sizes, dim=-1)[1])
    want = bounded.output(torch.einsum("bvk,bk->bv", outputs[-1], q / (1e-5 + q.sum(-1, keepdim=True))))
    torch.testing.assert_close(y[:, -1], want)


@pytest.mark.parametrize("heads", [1, 2])
def test_an_orthogonal_start_has_every_map_of_x_orthogonal(heads: int) -> None:
    memory = SHM(9, 7, 4, heads=heads, shortcut=True)
    table = memory.table.detach().clone()
    memory.initialise_orthogonal()
    maps = [w for of_head in memory.project.weight.detach().chunk(heads) for w in of_head.split(memory.sizes)]
    for weight in (*maps, memory.output.weight.detach(), memory.shortcut.weight.detach()):
        small = weight if weight.shape[0] <= weight.shape[1] else weight.T
        torch.testing.assert_close(small @ small.T, torch.eye(len(small)), rtol=0, atol=1e-5)
    assert not memory.output.bias.any()
    assert torch.equal(memory.table, table)


def test_sizes_are_the_released_ones() -> None:
    parameters = {name: tuple(p.shape) for name, p in SHM(64, 32, 24).named_parameters()}
    assert parameters == {
        "norm.weight": (64,),
        "norm.bias": (64,),
        "project.weight": (4 * 24 + 1, 64),  # k, q, v, the gate and v_c, without bias
        "table": (128, 24),
        "output.weight": (32, 24),
        "output.bias": (32,),
    }


def test_alone_like_a_gru() -> None:
    memory = SHM(10, 20, 16)
    y, state = memory(torch.randn(4, 9, 10))
    assert y.shape == (4, 9, 20)
    assert state["memory"].shape == (4, 16, 16)
    y, state = memory(torch.randn(4, 1, 10), state)
    assert y.shape == (4, 1, 20)


def test_rows_are_uniform_and_uncorrelated() -> None:
    """Chi-square over single rows and over pairs of neighbours, at five standard deviations."""
    n, L = 200_000, 16
    rows = hashed_rows(torch.arange(n) + 2**40, L)
    assert rows.min() >= 0
    assert rows.max() < L
    for values, cells in ((rows, L), (rows[:-1] * L + rows[1:], L * L)):
        counts = torch.bincount(values, minlength=cells).double()
        expected = len(values) / cells
        chi_square = ((counts - expected) ** 2 / expected).sum().item()
        freedom = cells - 1
        assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


def test_rows_cover_tables_of_any_length() -> None:
    for L in (1, 3, 128, 1000):
        assert set(hashed_rows(torch.arange(40 * L), L).tolist()) == set(range(L))


def test_replaying_meets_the_same_rows_and_a_fresh_state_others() -> None:
    memory = SHM(5, 7, 12)
    x, state = torch.randn(2, 30, 5), memory.initial_state(2)
    assert torch.equal(memory(x, state)[0], memory(x, state)[0])
    assert not torch.equal(memory(x, state)[0], memory(x, memory.initial_state(2))[0])


def test_a_seed_fixes_everything() -> None:
    def run() -> Tensor:
        torch.manual_seed(5)
        memory = SHM(5, 7, 12)
        return memory(torch.randn(2, 30, 5))[0]

    assert torch.equal(run(), run())


def test_the_clock_counts_steps_and_ignores_resets() -> None:
    memory = SHM(5, 7, 12)
    state = memory.initial_state(3)
    _, after = memory(torch.randn(3, 11, 5), state, torch.ones(3, 11, dtype=torch.bool))
    assert torch.equal(after["clock"], state["clock"] + 11)


def test_options_from_text() -> None:
    assert parse_options("shm", ["theta=fixed", "read_norm=true", "rows=64"]) == {
        "theta": "fixed",
        "read_norm": True,
        "rows": 64,
    }
    for text, word in (
        ("theta", "name=value"),
        ("thata=fixed", "theta"),
        ("theta=rnd", "one of random, centred, stable, fixed, learned"),
        ("rows=many", "of type int"),
        ("read_norm=1", "true or false"),
    ):
        with pytest.raises(ValueError, match=word):
            parse_options("shm", [text])


@pytest.mark.parametrize(
    "options", [{"theta": "none"}, {"feature_map": "elu"}, {"memory_size": 0}, {"rows": 0}, {"clamp": 0.0}]
)
def test_bad_options(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SHM(4, 4, **options)


def test_under_autocast_and_in_half_precision() -> None:
    memory = SHM(5, 7, 12, feature_map="softmax")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert memory(torch.randn(2, 6, 5))[0].isfinite().all()
    memory = memory.bfloat16()
    state = memory.initial_state(2)
    _, after = memory(torch.randn(2, 6, 5, dtype=torch.bfloat16), state)
    assert after["memory"].dtype == state["memory"].dtype == torch.float32


@pytest.mark.parametrize(("theta", "grows"), [("random", True), ("centred", False)])
def test_a_centred_theta_lets_no_entry_grow_whatever_was_learned(theta: str, grows: bool) -> None:
    """Over all rows of the table, the logarithms of an entry of C sum to at most 0 (C = exp(u) / cosh(u), u of mean 0)."""
    torch.manual_seed(0)
    memory = SHM(5, 7, 12, theta=theta).double()
    with torch.no_grad():
        memory.table += 0.3  # rows that agree, as training may make them
        clock = torch.arange(4000)[None]
        numbers = hashed_rows(clock, memory.rows)[0]
        rows = memory._theta(clock)[0][[int((numbers == row).nonzero()[0]) for row in range(memory.rows)]]
        C = 1 + torch.tanh(torch.einsum("rv,bk->rbvk", rows, torch.randn(20, 12).double()))
    assert bool((C.log().sum(dim=0) > 0).any()) == grows


@pytest.mark.parametrize(("heads", "size"), [(1, 16), (4, 8), (3, 6)])
def test_turned_vectors_tell_all_positions_of_a_period_apart(heads: int, size: int) -> None:
    pairs = heads * size // 2
    x = torch.ones(1, heads, 2 * pairs, size, dtype=torch.float64)
    first = 2**40  # far into an episode nothing is rounded away
    table = turns(heads, size)
    k = turned(x, first + torch.arange(2 * pairs)[None], table)
    product = torch.einsum("bhik,bhjk->ij", k, k)
    torch.testing.assert_close(product, heads * torch.eye(2 * pairs, dtype=torch.float64))
    backwards = turned(x, first + torch.arange(2 * pairs)[None], table, sign=-1)
    sums = torch.einsum("bhik,bhjk->ij", k, backwards)  # depends on i + j
    torch.testing.assert_close(sums[1:, :-1], sums[:-1, 1:])


def test_keys_of_epochs_average_what_was_written_in_each() -> None:
    keys = epochs(torch.arange(1023)[None], 10)[0]
    torch.testing.assert_close(keys.sum(dim=0), torch.ones(10), rtol=0, atol=0)
    for n in range(10):
        assert keys[:, n].nonzero().flatten().tolist() == list(range(2**n - 1, 2 ** (n + 1) - 1))
    torch.testing.assert_close(epochs(torch.tensor([[2**40]]), 4)[0, 0], torch.tensor([0, 0, 0, 2**-3]))  # the last: all others
    assert epochs(torch.tensor([[2**40]]), 80)[0, 0].nonzero().item() == 40


def accuracy_after_training(memory: SHM, updates: int, batch: Callable[[], tuple[Tensor, Tensor, Tensor]]) -> float:
    """The accuracy of a linear read-out of the memory in the last ten of some updates, on which the memory is trained too.

    `batch` gives symbols x (B, T, D), the steps that are asked (T,), and the answers (B, T), of four.
    """
    read = torch.nn.Linear(memory.output_size, 4)
    optimiser = torch.optim.Adam([*memory.parameters(), *read.parameters()], lr=1e-2)
    right = []
    for _ in range(updates):
        x, asked, answers = batch()
        logits, answers = read(memory(x)[0])[:, asked], answers[:, asked]
        loss = F.cross_entropy(logits.flatten(0, 1), answers.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        right.append((logits.argmax(-1) == answers).float().mean().item())
    return sum(right[-10:]) / 10


@pytest.mark.parametrize(("options", "holds"), [({"epoch_heads": 1}, True), ({}, False)])
def test_heads_by_epoch_hold_the_first_observation(options: dict, holds: bool) -> None:
    """Nothing tells the first symbol from the many that follow but its time."""
    torch.manual_seed(0)
    memory = SHM(4, 16, 16, calibration="ones", feature_map="softmax", read_norm=True, **options)

    def batch() -> tuple[Tensor, Tensor, Tensor]:
        symbols = torch.randint(4, (32, 150))
        return F.one_hot(symbols, 4).float(), torch.arange(150) >= 50, symbols[:, :1].expand(-1, 150)

    assert (accuracy_after_training(memory, 100, batch) > 0.9) == holds


@pytest.mark.parametrize(
    ("options", "mirrored", "finds"),
    [
        ({"lag_heads": 2}, False, True),
        ({}, False, False),
        ({"mirror_heads": 2}, True, True),
        ({"lag_heads": 2}, True, False),
    ],
)
def test_heads_that_turn_find_what_was_written_by_when_it_was(options: dict, mirrored: bool, finds: bool) -> None:
    torch.manual_seed(0)
    memory = SHM(5, 16, 16, theta="centred", table_scale=0.1, read_norm=True, heads=2, **options)

    def batch() -> tuple[Tensor, Tensor, Tensor]:
        cards = torch.randint(4, (32, 24))
        if mirrored:  # the first half, backwards
            asked = torch.arange(24) >= 12
            shown = F.one_hot(cards, 4) * ~asked[:, None]
            answer = cards.flip(1)
        else:  # that of nine steps ago
            asked = torch.arange(24) >= 9
            shown = F.one_hot(cards, 4)
            answer = cards.roll(9, 1)
        return torch.cat([shown, asked[:, None].expand(32, 24, 1)], dim=-1).float(), asked, answer

    assert (accuracy_after_training(memory, 120, batch) > 0.8) == finds


def test_recurrent_weights() -> None:
    """Those of the layers before and after the matrix are not among them, alone or in a stack; in other memories, all are."""
    options = {"heads": 2, "shortcut": True, "convolution": 2, "read_norm": True, "theta": "stable"}
    memory = make_memory("shm", 3, 5, 4, **options)
    assert {id(weight) for weight in memory.recurrent_weights()} == {
        id(weight) for weight in (memory.project.weight, memory.table, memory.erasure, *memory.read_norm.parameters())
    }
    stack = make_memory("shm", 3, 5, 4, layers=2, **options)
    assert len(stack.recurrent_weights()) == 2 * len(memory.recurrent_weights())
    gru = make_memory("gru", 3, 5)
    assert len(gru.recurrent_weights()) == len(list(gru.parameters()))
