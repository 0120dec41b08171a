"""The losses of the training, beside those of Transformers; only where PyTorch is."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the training is not tested")
transformers = pytest.importorskip("transformers")

losses = pytest.importorskip("losses")
classroom = pytest.importorskip("classroom")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("padded", [False, True])
def test_the_balancing_loss_of_one_layer_is_that_of_transformers(padded: bool) -> None:
    from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

    logits = torch.randn(3 * 7, 8)
    real = torch.ones(3, 7, dtype=torch.bool)
    if padded:
        real[1, 4:] = real[2, 1:] = False
    theirs = load_balancing_loss_func((logits,), 8, 2, real.long() if padded else None)

    ours = losses.balancing_loss((logits,), real, 2)

    assert ours * 2 == pytest.approx(float(theirs), rel=1e-5)


def test_perfect_balance_is_one() -> None:
    """Token n prefers expert n: each is chosen as often as any other."""
    logits = torch.eye(8).repeat(4, 1) * 20
    real = torch.ones(4, 8, dtype=torch.bool)

    assert float(losses.balancing_loss((logits, logits), real, 1)) == pytest.approx(1)
    assert float(losses.sequence_balancing_loss((logits,), real, 1)) == pytest.approx(1)


def test_specialised_sequences_are_balanced_over_the_batch_and_not_alone() -> None:
    logits = (torch.eye(4) * 20).repeat_interleave(5, dim=0)  # a sequence for each expert
    real = torch.ones(4, 5, dtype=torch.bool)

    assert float(losses.balancing_loss((logits,), real, 1)) == pytest.approx(1)
    assert float(losses.sequence_balancing_loss((logits,), real, 1)) > 3.9


def test_one_sequence_is_a_batch() -> None:
    logits = torch.randn(9, 8)
    real = torch.ones(1, 9, dtype=torch.bool)
    real[0, 6:] = False

    whole = losses.balancing_loss((logits,), real, 3)
    assert float(losses.sequence_balancing_loss((logits,), real, 3)) == pytest.approx(float(whole))


def test_the_distance_to_oneself_is_nothing() -> None:
    logits, other = torch.randn(5, 11), torch.randn(5, 11)

    assert float(losses.distance(logits, logits)) == pytest.approx(0, abs=1e-6)
    expected = (other.softmax(-1) * (other.log_softmax(-1) - logits.log_softmax(-1))).sum(-1)
    assert float(losses.distance(logits, other)) == pytest.approx(float(expected.mean()), rel=1e-4)


def test_rows_of_like_length_are_together() -> None:
    rows = [([0] * length, [True] * length) for length in (5, 90, 7, 6, 88, 5, 200)]
    groups = classroom.group(rows, 100)

    assert sorted(len(ids) for group in groups for ids, _ in group) == [5, 5, 6, 7, 88, 90, 200]
    assert [len(ids) for ids, _ in groups[0]] == [5, 5, 6, 7]
    assert all(len(group) * len(group[-1][0]) <= 100 or len(group) == 1 for group in groups)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", ["tiny", "tiny-dense"])
def test_one_update_with_a_teacher(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small shape: the parts of the loss are there, and the update lowers it."""
    import models
    from tokenizers import Tokenizer
    from train import make_run, train_step

    from qwen3_mlx.hub import resolve

    small = models.SIZES[size] | {"hidden_size": 64, "num_hidden_layers": 2}
    monkeypatch.setitem(models.SIZES, size, small)
    tokenizer = Tokenizer.from_file(str(resolve("tiny") / "tokenizer.json"))
    config = models.make_config(tokenizer, size)
    run = make_run(config, 1)
    teacher = make_run(models.make_config(tokenizer, "tiny-dense"), 2).model
    goal = losses.Goal(teacher=teacher)
    batch = classroom.collate([([5, 6, 7, 8], [False, True, True, True]), ([9, 8], [True] * 2)], 0)

    first = train_step(run, batch, 1.0, goal)
    second = train_step(run, batch, 1.0, goal)

    assert set(first) == {"loss", "distance"} | ({"balance"} if size == "tiny" else set())
    assert second["loss"] < first["loss"]
    assert run.tokens == 12
