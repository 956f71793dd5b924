"""The test of a change against images and retraining: against scipy, statsmodels and its own error rates."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower, TTestPower

from captchabench.comparison import retraining
from captchabench.comparison.multiplicity import can_be_significant, holm
from captchabench.comparison.paired import mcnemar
from captchabench.comparison.retraining import Noise, Retraining, change_test
from captchabench.studies.noise import icc, noise_row

NOTHING = Retraining(0.0, (), "study")


@pytest.mark.parametrize(("gained", "lost"), [(3, 12), (20, 41), (1, 6), (150, 120)])
def test_without_retraining_noise_it_is_mcnemars_test(gained: int, lost: int) -> None:
    test = mcnemar(gained, lost)
    found = change_test(
        (gained - lost) / 500, test.p, (gained + lost) / 500**2, mcnemar(gained + lost, 0).p, 500, NOTHING
    )
    assert found.p == pytest.approx(test.p, abs=1e-9) or test.p < 1e-3
    assert found.attainable == pytest.approx(mcnemar(gained + lost, 0).p, abs=1e-9)


def test_a_tiny_p_of_the_networks_does_not_outweigh_retraining() -> None:
    """900 of 1,000 images that differ do so one way: McNemar's p is far below that of 900 / √1,000 standard errors."""
    test = mcnemar(950, 50)
    images = 1000 / 4000**2
    found = change_test(900 / 4000, test.p, images, mcnemar(1000, 0).p, 4000, Retraining(100 * images, (), "study"))
    assert stats.norm.isf(test.p / 2) > 1.1 * 900 / math.sqrt(1000)
    assert found.p == pytest.approx(2 * stats.norm.sf(900 / 4000 / math.sqrt(101 * images)), rel=1e-9)


def test_with_much_retraining_noise_it_is_a_t_test_of_two_trainings() -> None:
    """Where retraining is all, a difference is judged by the spread of K trainings alone."""
    accuracies = np.array([0.91, 0.95, 0.93, 0.90, 0.96])
    noise = Noise(float(accuracies.var(ddof=1)), 0.0, 5, 0.0651)
    adding = retraining.from_studies(noise, noise, 1, same=True)
    images = 1e-9
    found = change_test(0.04, 2 * stats.norm.sf(0.04 / math.sqrt(images)), images, 0.0, 1000, adding)
    expected = 2 * stats.t.sf(0.04 / math.sqrt(2 * accuracies.var(ddof=1)), 4)
    assert found.p == pytest.approx(expected, rel=1e-5)


def test_retrainings_that_happen_to_agree_add_no_certainty() -> None:
    """Their spread is below that of single images, where the true one cannot be: still few degrees of freedom."""
    images = 54 / 215**2
    agreed = Noise(5e-5, 55e-5, 5, 0.234)
    study = retraining.from_studies(agreed, agreed, 1, same=True)
    assert study.excess < 0
    assert study.degrees(images) == pytest.approx(4.0)
    folds = retraining.from_folds([0.010, 0.011, 0.009], [1e-3, 1e-3, 1e-3])
    assert folds.degrees(1e-3 / 3) == pytest.approx(2.0)
    found = change_test(-16 / 215, mcnemar(19, 35).p, images, 0.0, 215, study)
    assert found.p == pytest.approx(2 * stats.t.sf(stats.norm.isf(mcnemar(19, 35).p / 2) * 2, 4), rel=1e-9)
    # Nor does this comparison find more than one of the two networks alone.
    assert retraining.detectable(215, 54 / 215, study, 0.05) > retraining.detectable(215, 54 / 215, NOTHING, 0.05)


def test_a_study_of_a_better_side_is_carried_to_the_values_compared() -> None:
    """By its intraclass correlation, as `noise_row` and `icc` define it: 98 % exact, and sides near 90 %."""
    row = {"exact": 0.98, "exact_sd": 0.01, "exact_sd_images": 0.004, "cer": 0.01, "cer_sd": 0.005, "trainings": 5}
    noise = retraining.measured({**row, "cer_sd_images": 0.003})
    spread = retraining.image_spread("exact", 0.9)
    carried = noise["exact"].at(spread)
    adding = retraining.from_studies(carried, carried, 1, same=True)
    assert adding.excess == pytest.approx(2 * icc(row) * 0.9 * 0.1, abs=1e-15)
    assert adding.parts[0] == pytest.approx((2 * 0.01**2 * (0.9 * 0.1) / (0.98 * 0.02), 4.0))
    assert noise["exact"].at(retraining.image_spread("exact", 0.98)) == noise["exact"]
    twice = noise["cer"].at(retraining.image_spread("cer", 0.02))
    assert twice.total == pytest.approx(0.005**2 * (0.02 * 0.98) / (0.01 * 0.99))
    # A side that reads nothing has a CER of 1, and is not without noise.
    assert retraining.image_spread("cer", 1.0) == retraining.image_spread("cer", 0.5) == 0.25
    # Where every training read everything right, there is no intraclass correlation.
    assert Noise(0.0, 0.0, 5, 0.0).at(spread) == Noise(0.0, 0.0, 5, spread)


def test_folds_are_compared_by_the_paired_t_test() -> None:
    """With equal folds and no image noise, as scipy's paired t-test over them."""
    old, new = np.array([0.90, 0.93, 0.91, 0.95, 0.92]), np.array([0.93, 0.94, 0.95, 0.96, 0.92])
    adding = retraining.from_folds((new - old).tolist(), [1e-12] * 5)
    value = float((new - old).mean())
    found = change_test(value, 2 * stats.norm.sf(value / 1e-6), 1e-12, 0.0, 1000, adding)
    assert found.p == pytest.approx(stats.ttest_rel(new, old).pvalue, rel=1e-5)


def test_nadeau_and_bengio_with_no_overlap_is_the_paired_t_test() -> None:
    differences = [0.03, 0.01, 0.04, 0.01, 0.0]
    assert retraining.nadeau_bengio(differences, 0.0) == pytest.approx(
        stats.ttest_1samp(differences, 0.0).pvalue, abs=1e-12
    )
    # By hand, for ten folds of 10 %: t = mean / sqrt((1/10 + 1/9) s^2).
    ten = [0.02, 0.01, 0.03, -0.01, 0.0, 0.02, 0.01, 0.0, 0.01, 0.01]
    t = np.mean(ten) / math.sqrt((1 / 10 + 1 / 9) * np.var(ten, ddof=1))
    assert retraining.nadeau_bengio(ten, 1 / 9) == pytest.approx(2 * stats.t.sf(t, 9), abs=1e-12)


def test_the_interval_excludes_zero_exactly_if_the_test_is_significant() -> None:
    noise = Noise(2e-4, 5e-5, 5, 0.1)
    adding = retraining.from_studies(noise, noise, 1, same=True)
    for gained in range(10, 60):
        test = mcnemar(gained, 10)
        found = change_test((gained - 10) / 400, test.p, (gained + 10) / 400**2, 0.0, 400, adding)
        for level in (0.05, 0.01):
            low, high = found.interval(level)
            assert (low > 0 or high < 0) == (found.p < level)


def test_the_variance_of_images_within_a_retraining_is_that_of_statsmodels() -> None:
    """Two-way analysis of variance, trainings x images, as AnovaRM computes it."""
    import pandas as pd

    rng = np.random.default_rng(0)
    trainings, images = 4, 30
    right = rng.random((trainings, images)) < rng.beta(4, 1, images)
    row = noise_row(right, (~right).astype(np.int64), np.full(images, 1))
    long = pd.DataFrame(
        [(t, i, float(right[t, i])) for t in range(trainings) for i in range(images)],
        columns=["training", "image", "right"],
    )
    f = AnovaRM(long, "right", "image", within=["training"]).fit().anova_table["F Value"].iloc[0]
    assert (row["exact_sd"] / row["exact_sd_images"]) ** 2 == pytest.approx(f, abs=1e-9)
    # One character in each label: an error is an edit.
    assert row["cer"] == pytest.approx(1 - row["exact"])
    assert row["cer_sd_images"] == pytest.approx(row["exact_sd_images"])


@pytest.mark.parametrize("degrees", [1, 4, 9, 200])
@pytest.mark.parametrize("level", [0.05, 0.002])
def test_the_power_is_that_of_statsmodels(degrees: int, level: float) -> None:
    delta = retraining.noncentrality(degrees, level)
    # A one-sample t-test with as many degrees of freedom; its noncentrality is effect size x sqrt(n).
    power = TTestPower().power(delta / math.sqrt(degrees + 1), degrees + 1, level / 2, alternative="larger")
    assert power == pytest.approx(0.8, abs=1e-9)


def test_the_power_without_retraining_is_that_of_the_normal_test() -> None:
    delta = retraining.noncentrality(math.inf, 0.05)
    power = NormalIndPower(ddof=0).power(delta, 1, 0.025, ratio=0, alternative="larger")
    assert power == pytest.approx(0.8, abs=1e-9)


def test_what_is_detectable_is_detected_four_times_in_five() -> None:
    """1,000 images, half of them readable for one model alone or the other: a simulation of the test itself."""
    rng = np.random.default_rng(1)
    images, differing = 2000, 0.1
    difference = retraining.detectable(images, differing, NOTHING, 0.05)
    shares = [(differing + difference) / 2, (differing - difference) / 2, 1 - differing]
    counts = rng.multinomial(images, shares, size=2000)
    found = [mcnemar(int(gained), int(lost)).p < 0.05 for gained, lost, _ in counts]
    assert 0.77 <= np.mean(found) <= 0.83


def test_the_needed_images_and_trainings_find_it() -> None:
    noise = Noise(4e-4, 1e-4, 5, 0.1)
    adding = retraining.from_studies(noise, noise, 1, same=True)
    now = retraining.detectable(1000, 0.05, adding, 0.05)
    wanted = now / 1.2
    images = retraining.images_needed(wanted, 1000, 0.05, adding, 0.05)
    trainings = retraining.trainings_needed(wanted, 1000, 1, 0.05, adding, 0.05)
    assert trainings is not None
    assert trainings > 1
    # Images alone cannot make up for the noise of retraining.
    assert retraining.images_needed(now / 10, 1000, 0.05, adding, 0.05) is None
    assert retraining.trainings_needed(now / 10, 1000, 1, 0.05, adding, 0.05) is None
    assert images is None or images > 1000
    quiet = retraining.images_needed(0.01, 1000, 0.05, NOTHING, 0.05)
    assert quiet is not None
    assert retraining.detectable(quiet, 0.05, NOTHING, 0.05) == pytest.approx(0.01, rel=1e-3)


def test_holm_is_that_of_statsmodels() -> None:
    p = [0.01, 0.2, 0.004, 0.7, 0.03]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist(), abs=1e-12)


def test_tarone_as_in_his_example() -> None:
    """Nine tests, of which few can be significant: K is the smallest k with at most k tests that reach level / k."""
    attainable = [1.0, 0.5, 0.5, 0.25, 0.06, 0.03, 0.012, 0.004, 0.0001]
    # k = 1: 4 reach 0.05; k = 2: 3 reach 0.025; k = 3: 3 reach 0.0167.
    assert [p for p, kept in zip(attainable, can_be_significant(attainable, 0.05), strict=True) if kept] == [
        0.012,
        0.004,
        0.0001,
    ]
    assert can_be_significant([1.0, 1.0], 0.05) == [False, False]
    assert can_be_significant([], 0.05) == []


def test_the_family_wise_error_holds_with_idle_rows() -> None:
    """25 rows of models that are equal, 20 of them with too few images: any finding is false."""
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(2000):
        differing = np.concatenate([rng.poisson(3, 20), rng.poisson(60, 5)])
        gained = rng.binomial(differing, 0.5)
        tests = [mcnemar(int(g), int(d - g)) for g, d in zip(gained, differing, strict=True)]
        kept = can_be_significant([mcnemar(int(d), 0).p for d in differing], 0.05)
        p = holm([test.p for test, is_kept in zip(tests, kept, strict=True) if is_kept])
        false += min(p, default=1.0) < 0.05
    assert 0.02 <= false / 2000 <= 0.06
