"""The space to search next follows from the best trials, and is a space."""

from itertools import islice, product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.search.next_space import Advice, advise, narrowed
from irmas_dist.search.space import Space, build_space
from irmas_dist.search.study import importances, list_trials
from tests.search.conftest import fill, make_study


def test_advice_narrows_a_range_to_its_good_part(space: Space) -> None:
    study = make_study(space, None, sampler="random")
    fill(study, space, 60)
    rows = list_trials(study, space)
    advice = {item.name: item for item in advise(rows, space, importances(study))}
    better = advice["training.lr"].entry
    assert better is not None
    assert 1e-4 < better["low"] < 3e-3 < better["high"] < 1e-2
    assert advise(rows[:4], space, {}) == []


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, Any]:
    """Ranges that are wide or narrow, near 0 or far from it."""
    low = draw(st.floats(1e-5, 0.99))
    high = low + draw(st.sampled_from([1e-3, 0.099, 1.0])) * draw(st.floats(0.1, 1.0))
    return {"type": "float", "low": low, "high": high, "log": draw(st.booleans())}


@settings(max_examples=100)
@given(ranges(), st.lists(st.floats(0.0, 1.0), min_size=8, max_size=12))
def test_an_advised_range_lies_in_the_one_searched_around_the_best_values(
    content: dict[str, Any], shares: list[float]
) -> None:
    space = build_space({"training.lr": content}, Recipe(), "the test")
    low, high = content["low"], content["high"]
    values = [min(low + share * (high - low), high) for share in shares]
    rows = [{"state": "completed", "params": {"training.lr": value}} for value in values]
    for advice in advise(rows, space, {}):
        advised = advice.entry
        assert advised is not None
        assert low <= advised["low"] < advised["high"] <= high
        assert all(advised["low"] <= value <= advised["high"] for value in values[:3])
    build_space(narrowed(space, advise(rows, space, {})).content(), Recipe(), "next")


def test_an_advised_range_is_one_that_the_recipe_takes() -> None:
    entry = {"type": "float", "low": 0.9, "high": 0.999}
    space = build_space({"training.ema": entry}, Recipe(), "the test")
    best = [0.985, 0.986, 0.98, *[0.95] * 8]
    rows = [{"state": "completed", "params": {"training.ema": value}} for value in best]
    (advice,) = advise(rows, space, {})
    assert advice.entry == {"type": "float", "low": 0.97, "high": 0.999}
    build_space(narrowed(space, [advice]).content(), Recipe(), "next")


NESTED = {
    "training.schedule": {"type": "categorical", "choices": ["constant", "cosine", "plateau"]},
    "training.weight_decay": {
        "type": "float", "low": 1e-5, "high": 0.1, "log": True,
        "when": {"training.schedule": ["cosine", "plateau"]},
    },
    "model.blocks": {"type": "int", "low": 2, "high": 4},
    "model.width": {
        "type": "int", "low": 8, "high": 32, "step": 8,
        "when": {"model.blocks": [2, 3], "training.schedule": "plateau"},
    },
    "model.dense": {"type": "int", "low": 32, "high": 64, "when": {"model.width": [16, 32]}},
    "augment.mix.counts": {"type": "categorical", "choices": [[1], [2, 1], [1, 1, 1]]},
    "augment.mix.level_db": {
        "type": "float", "low": 0.0, "high": 9.0,
        "when": {"augment.mix.counts": [[2, 1], [1, 1, 1]]},
    },
}  # fmt: skip


@settings(max_examples=75)
@given(st.data())
def test_the_next_space_is_valid_however_entries_are_fixed_or_narrowed(
    data: st.DataObject,
) -> None:
    space = build_space(NESTED, Recipe(), "the test")
    advice = []
    for name, entry in NESTED.items():
        choices = entry.get("choices") or [entry["low"], entry["high"]]
        what = data.draw(st.sampled_from(["unchanged", "fixed", "narrowed"]))
        if what == "fixed":
            advice.append(Advice(name, "", None, data.draw(st.sampled_from(choices))))
        elif what == "narrowed" and "choices" in entry:
            remaining = data.draw(st.lists(st.sampled_from(choices), min_size=2, unique_by=str))
            advice.append(Advice(name, "", {"type": "categorical", "choices": remaining}, None))
        elif what == "narrowed" and name == "model.blocks":
            advice.append(Advice(name, "", {"type": "int", "low": 3, "high": 4}, None))
    fixed = {item.name: item.value for item in advice if item.entry is None}
    content = narrowed(space, advice).content()
    assert not content.keys() & fixed.keys()
    if not content:
        return
    following = build_space(content, build_recipe(Recipe().model_dump(), fixed, "fixed"), "next")
    grid = {name: entry.samples() for name, entry in following.entries.items()}
    for values in islice(product(*grid.values()), 200):
        drawn = as_drawn(fixed | dict(zip(grid, values, strict=True)))
        for name, entry in space.entries.items():
            # Under the same values it is searched, or not, as before.
            if name in following.entries and entry.when.keys() <= drawn.keys():
                assert following.entries[name].holds(drawn) == entry.holds(drawn)


def test_an_entry_whose_conditions_exclude_each_other_leaves_the_space() -> None:
    entries = {
        "model.blocks": {"type": "categorical", "choices": [2, 3, 4]},
        "model.head": {
            "type": "categorical", "choices": ["max", "average"],
            "when": {"model.blocks": [2, 3]},
        },
        "model.dense": {
            "type": "int", "low": 8, "high": 9,
            "when": {"model.head": "max", "model.blocks": [3, 4]},
        },
    }  # fmt: skip
    space = build_space(entries, Recipe(), "the test")
    without_three = {"type": "categorical", "choices": [2, 4]}
    content = narrowed(space, [Advice("model.blocks", "", without_three)]).content()
    assert list(content) == ["model.blocks", "model.head"]
    build_space(content, Recipe(), "next")


def as_drawn(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with lists as a space draws them."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def test_a_choice_of_none_was_not_tried_where_its_entry_was_not_drawn() -> None:
    entries = {
        "training.schedule": {"type": "categorical", "choices": ["constant", "cosine"]},
        "training.clip_norm": {
            "type": "categorical",
            "choices": [None, 1.0, 2.0],
            "when": {"training.schedule": "cosine"},
        },
    }
    drawn = [{"training.schedule": "cosine", "training.clip_norm": 1.0 + i % 2} for i in range(6)]
    drawn += [{"training.schedule": "constant"}] * 6
    rows = [{"state": "completed", "params": params} for params in drawn]
    advice = advise(rows, build_space(entries, Recipe(), "the test"), {})
    assert not [one for one in advice if one.name == "training.clip_norm"]
