"""The engine: it learns, repeats itself bit for bit, keeps the best weights, stops early."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from captchabench.cells.split import balanced, held_out, split_rest
from captchabench.errors import InputError
from captchabench.models.crnn import Config, Crnn
from captchabench.networks.network import Network, same_text, standardize
from captchabench.samples.shards import Samples
from captchabench.training.checkpoints import CurvePoint
from captchabench.training.engine import evaluate, train_network
from captchabench.training.settings import TrainingConfig

MakeSamples = Callable[..., Samples]


def small_crnn(samples: Samples, **training: Any) -> Crnn:
    config = Config(
        channels=(8, 8, 8),
        stem_stride=2,
        hidden=8,
        layers=1,
        training=TrainingConfig(batch_size=8, **training),
    )
    return Crnn(samples.info.spec, config)


def test_equal_seeds_give_identical_weights_and_different_seeds_do_not(make_samples: MakeSamples) -> None:
    samples = make_samples(40)
    weights = []
    for seed in (0, 0, 1):
        model = small_crnn(samples, steps=6, augment=1.0)
        model.fit(samples, samples, seed=seed)
        weights.append(torch.cat([p.flatten() for p in model.network.state_dict().values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_weights_do_not_depend_on_the_number_of_threads(make_samples: MakeSamples) -> None:
    samples = make_samples(40)
    before = torch.get_num_threads()
    weights = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            model = small_crnn(samples, steps=6, muon=0.02)
            model.fit(samples, samples, seed=0)
            weights.append(torch.cat([p.flatten() for p in model.network.state_dict().values()]))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*weights)


def test_training_leaves_the_global_generator_alone(make_samples: MakeSamples) -> None:
    samples = make_samples(16)
    model = small_crnn(samples, steps=2)
    before = torch.get_rng_state()
    model.fit(samples, samples, seed=3)
    assert torch.equal(before, torch.get_rng_state())


def loss_of(point: CurvePoint) -> float:
    assert point.validation_loss is not None
    return point.validation_loss


def rate_of(point: CurvePoint) -> float:
    assert point.learning_rate is not None
    return point.learning_rate


def test_the_kept_weights_are_the_best_of_the_curve(make_samples: MakeSamples) -> None:
    samples = make_samples(60, lengths=(1, 1))
    # With a learning rate this high the curve goes up and down.
    model = small_crnn(samples, steps=120, evaluations=30, learning_rate=0.05)
    curve = model.fit(samples, samples, seed=0)
    loss, exact = evaluate(model.network, model.tensors(samples))
    best = max(curve, key=lambda point: (point.validation_exact, -loss_of(point)))
    assert exact == best.validation_exact
    assert loss == pytest.approx(loss_of(best), rel=1e-5)
    assert not model.network.training


def test_early_stopping_ends_before_the_budget(make_samples: MakeSamples) -> None:
    samples = make_samples(16)
    model = small_crnn(samples, steps=100, evaluations=50, patience=2, learning_rate=1e-7)
    assert len(model.fit(samples, samples, seed=0)) < 50


def test_a_perfect_validation_can_end_training(make_samples: MakeSamples) -> None:
    samples = make_samples(16, alphabet="1", lengths=(1, 1))
    ends = [
        small_crnn(samples, steps=200, evaluations=20, learning_rate=1e-2, guide=20.0, stop_when_perfect=stop).fit(
            samples, samples, seed=0
        )[-1]
        for stop in (True, False)
    ]
    assert [end.validation_exact for end in ends] == [1.0, 1.0]
    assert ends[0].step < ends[1].step == 200


def test_plateau_lowers_the_rate(make_samples: MakeSamples) -> None:
    samples = make_samples(16)
    model = small_crnn(samples, steps=60, evaluations=20, schedule="plateau", learning_rate=0.3)
    rates = [rate_of(point) for point in model.fit(samples, samples, seed=0)]
    assert rates[0] == pytest.approx(0.3)
    assert rates[-1] <= 0.101 * rates[0]


def test_one_cycle_warms_up_and_decays(make_samples: MakeSamples) -> None:
    samples = make_samples(16)
    model = small_crnn(samples, steps=40, evaluations=40, learning_rate=1e-3)
    rates = [rate_of(point) for point in model.fit(samples, samples, seed=0)]
    assert max(rates) == pytest.approx(1e-3, rel=0.05)
    assert 0 < rates.index(max(rates)) < 12
    assert rates[-1] < 0.9e-5


def test_no_samples_are_an_error(make_samples: MakeSamples) -> None:
    samples = make_samples(8)
    none = samples.where(np.zeros(8, bool))
    with pytest.raises(InputError, match="0 to train on, 8 to choose on"):
        small_crnn(samples, steps=1).fit(none, samples, seed=0)


class Diverging(Network):
    """A network whose loss is NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.weight.expand(len(images), 1, 2) * float("nan")

    def losses(
        self,
        log_probs: torch.Tensor,
        targets: torch.Tensor,
        lengths: torch.Tensor,
        guide: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return log_probs.sum(dim=(1, 2))

    def read(self, log_probs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return log_probs.argmax(dim=2), log_probs[:, 0, 0]


def test_divergence_is_an_error(make_samples: MakeSamples) -> None:
    samples = make_samples(16)
    tensors = small_crnn(samples, steps=1).tensors(samples)
    with pytest.raises(InputError, match=r"diverged.*learning_rate"):
        train_network(Diverging(), tensors, tensors, TrainingConfig(steps=3, batch_size=4), seed=0)


def test_standardize_maps_a_constant_image_to_zeros() -> None:
    images = torch.stack([torch.full((4, 5), 7), torch.arange(20).view(4, 5)]).to(torch.uint8)
    out = standardize(images)
    assert out.shape == (2, 1, 4, 5)
    assert (out[0] == 0).all()
    assert out[1].mean().abs() < 1e-6
    assert 0.8 < out[1].std() < 1.1


def test_same_text_ignores_padding() -> None:
    ids = torch.tensor([[1, 2, -1, -1], [1, 2, 3, -1], [-1, -1, -1, -1]])
    targets = torch.tensor([[1, 2, -1], [1, 2, 4], [-1, -1, -1]])
    assert same_text(ids, targets).tolist() == [True, False, True]
    assert same_text(targets, ids).tolist() == [True, False, True]


def test_split_never_takes_from_the_held_out_fold_and_is_stable(make_samples: MakeSamples) -> None:
    samples = make_samples(200)
    train, validation = split_rest(samples, fold=2, validation_share=0.2, seed=0)
    held = held_out(samples, 2)
    parts = [set(part.sample_ids) for part in (train, validation, held)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 200
    assert set(held.folds) == {2}
    assert 15 <= len(validation) <= 50
    fewer = samples.where(np.arange(200) % 3 != 0)
    _, validation_of_fewer = split_rest(fewer, fold=2, validation_share=0.2, seed=0)
    assert set(validation_of_fewer.sample_ids) == parts[1] & set(fewer.sample_ids)


def test_balance_repeats_the_images_of_smaller_datasets(make_samples: MakeSamples) -> None:
    samples = make_samples(200)
    datasets = np.array(["large"] * 160 + ["small"] * 10 + ["middle"] * 30, object)
    merged = replace(samples, datasets=datasets)
    assert balanced(merged, 0.0) is merged
    assert balanced(samples, 1.0) is samples
    for balance, times in ((0.5, {"large": 1, "small": 4, "middle": 2}), (1.0, {"large": 1, "small": 16, "middle": 5})):
        found = Counter(balanced(merged, balance).sample_ids)
        assert found == {name: times[member] for name, member in zip(samples.sample_ids, datasets, strict=True)}
    again = balanced(merged, 0.5)
    index = {name: row for row, name in enumerate(samples.sample_ids)}
    assert all((samples.pixels[index[name]] == again.pixels[row]).all() for row, name in enumerate(again.sample_ids))


def test_an_empty_fold_is_an_error(make_samples: MakeSamples) -> None:
    with pytest.raises(InputError, match=r"written: fold 7 holds no images.*matrix\.folds"):
        held_out(make_samples(10), 7)
