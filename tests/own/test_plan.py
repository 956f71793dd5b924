"""What follows from the images: their size, the model, the budget."""

import pytest

from captchabench.config import build
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS
from captchabench.own.plan import Size, plan_for, size_of


@pytest.mark.parametrize(
    ("width", "height", "longest", "size"),
    [
        (104, 32, 6, Size(32, 104)),
        (200, 50, 5, Size(32, 128)),
        # So many pixels would show four symbols no better.
        (124, 24, 4, Size(32, 112)),
        # So few columns could not hold six symbols.
        (42, 30, 6, Size(32, 96)),
        (42, 30, 4, Size(32, 64)),
        (620, 80, 6, Size(40, 168)),
        (3000, 90, 20, Size(40, 256)),
    ],
)
def test_images_keep_their_shape_as_long_as_symbols_fit(width: int, height: int, longest: int, size: Size) -> None:
    assert size_of({(width, height): 10}, longest, tiles=False) == size


def test_images_of_very_different_shapes_are_padded() -> None:
    assert size_of({(100, 40): 10, (105, 40): 10}, 5, tiles=False).resize == "stretch"
    assert size_of({(100, 40): 10, (200, 40): 10}, 5, tiles=False).resize == "pad"
    # A few odd ones do not decide.
    assert size_of({(100, 40): 100, (200, 40): 5}, 5, tiles=False).resize == "stretch"


def test_more_and_smaller_images_take_more_steps_up_to_a_limit() -> None:
    small, large = Size(32, 100), Size(40, 200)
    steps = [plan_for(images, small, tiles=False).rounds[-1] for images in (500, 1000, 2000, 5000, 50_000)]
    assert steps == sorted(steps)
    assert steps[-1] == steps[-2]
    assert plan_for(1000, large, tiles=False).rounds[-1] < plan_for(1000, small, tiles=False).rounds[-1]


def test_minutes_and_cores_set_the_budget() -> None:
    def steps(minutes: float, cores: int) -> int:
        return plan_for(1000, Size(32, 100), tiles=False, minutes=minutes, cores=cores).rounds[-1]

    assert steps(2, 2) < steps(5, 2) < steps(20, 2)
    assert steps(5, 1) < steps(5, 2)


def test_a_short_schedule_comes_first() -> None:
    plan = plan_for(1000, Size(32, 100), tiles=False)
    short, whole = plan.rounds
    assert short < whole
    assert plan.with_steps(short)["training"]["steps"] == short


def test_only_photographs_are_mirrored() -> None:
    of_characters, of_photographs = (
        plan_for(1000, Size(288, 288), tiles=True, photographs=photographs) for photographs in (False, True)
    )
    assert "mirror" not in of_characters.parameters["training"]
    assert of_photographs.parameters["training"]["mirror"] is True


def test_models_of_a_part_see_each_image_as_often() -> None:
    plan = plan_for(1000, Size(32, 100), tiles=False)
    assert plan.rounds_of(1.0) == plan.rounds
    assert [round(4 * steps / whole, 1) for steps, whole in zip(plan.rounds_of(0.25), plan.rounds, strict=True)] == [
        1,
        1,
    ]


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("name", RECOGNISERS.names())
def test_every_model_has_valid_parameters_or_is_refused(name: str, tiles: bool) -> None:
    size = Size(144, 144) if tiles else Size(32, 100)
    try:
        plan = plan_for(1000, size, tiles=tiles, model=name)
    except InputError:
        # Such a model reads a line, and tiles are no line.
        assert tiles
        return
    for steps in plan.rounds or (0,):
        build(RECOGNISERS[name].config_class, plan.with_steps(steps), name)
    if plan.baseline:
        build(RECOGNISERS[plan.baseline].config_class, plan.baseline_parameters, plan.baseline)


def test_a_wrong_name_of_a_model_suggests_the_right_one() -> None:
    with pytest.raises(InputError, match=r"--model crn: .*did you mean 'crnn'"):
        plan_for(1000, Size(32, 100), tiles=False, model="crn")
    with pytest.raises(InputError, match="no model of tiles"):
        plan_for(1000, Size(144, 144), tiles=True, model="crnn")
