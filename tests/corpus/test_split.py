"""Splits: no group divided, every instrument on every side, proportions kept, few groups moved."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from irmas_dist.config.corpus import SplitSettings
from irmas_dist.corpus.groups import group_in_source, source_of
from irmas_dist.corpus.split import held_out, k_folds
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS
from tests.corpus.manifests import part_of

LARGEST = 5
"""Clips of the largest group of the corpora here."""


@dataclass
class Corpus:
    """Groups by name, each a list of the label sets of its clips."""

    groups: dict[str, list[frozenset[int]]]
    instruments: int

    @property
    def names(self) -> list[str]:
        return [name for name, clips in self.groups.items() for _ in clips]

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        clips = [clip for clips in self.groups.values() for clip in clips]
        table = np.zeros((len(clips), self.instruments), np.uint8)
        for row, clip in enumerate(clips):
            table[row, list(clip)] = 1
        return table

    def with_group(self, name: str, clips: list[frozenset[int]]) -> "Corpus":
        return Corpus({name: clips, **self.groups}, self.instruments)

    def held_out(self, share: float = 0.15, seed: int = 0) -> dict[str, int]:
        out = held_out(self.names, self.labels, SplitSettings(share=share, seed=seed))
        return self.sides(out.astype(int))

    def folds(self, folds: int, seed: int = 0) -> dict[str, int]:
        return self.sides(k_folds(self.names, self.labels, folds, seed))

    def sides(self, of_clips: npt.NDArray[np.integer]) -> dict[str, int]:
        """The side of each group; all its clips must be on it."""
        sides = dict(zip(self.names, of_clips.tolist(), strict=True))
        assert [sides[name] for name in self.names] == of_clips.tolist()
        return sides

    def counts(self, sides: dict[str, int], side: int) -> npt.NDArray[np.int64]:
        """Clips of each instrument on a side."""
        there = [sides[name] == side for name in self.names]
        return self.labels[there].sum(axis=0, dtype=np.int64)


@st.composite
def single_label(draw: st.DrawFn, at_least: int = 5) -> Corpus:
    """Groups of 1 to 5 clips, each of one instrument, some of each of 1 to 6 instruments."""
    instruments = draw(st.integers(1, 6))
    groups = {
        f"{instrument}/{group}": [frozenset({instrument})] * draw(st.integers(1, LARGEST))
        for instrument in range(instruments)
        for group in range(draw(st.integers(at_least, 30)))
    }
    return Corpus(groups, instruments)


def songs(count: int, seed: int) -> Corpus:
    """Songs of 1 to 5 excerpts with 1 to 3 of 6 instruments each, some common and some rare."""
    instruments = 6
    rng = np.random.default_rng(seed)
    weights = np.array([1, 2, 3, 5, 8, 13]) / 32
    groups = {}
    for song in range(count):
        line_up = rng.choice(instruments, 3, replace=False, p=weights)
        groups[f"song {song}"] = [
            frozenset(rng.choice(line_up, rng.integers(1, 4), replace=False).tolist())
            for _ in range(rng.integers(1, LARGEST + 1))
        ]
    # Enough of the rarest to be on each of five sides in any case.
    for instrument in range(instruments):
        for extra in range(5):
            groups[f"solo {instrument}/{extra}"] = [frozenset({instrument})]
    return Corpus(groups, instruments)


def multilabel() -> st.SearchStrategy[Corpus]:
    return st.builds(songs, st.integers(20, 80), st.integers(0, 2**32 - 1))


def any_corpus() -> st.SearchStrategy[Corpus]:
    return st.one_of(single_label(), multilabel())


@settings(max_examples=60)
@given(any_corpus(), st.floats(0.02, 0.98), st.integers(0, 5))
def test_no_group_is_divided_and_every_instrument_is_on_both_sides(
    corpus: Corpus, share: float, seed: int
) -> None:
    sides = corpus.held_out(share, seed)
    assert (corpus.counts(sides, 0) > 0).all()
    assert (corpus.counts(sides, 1) > 0).all()


@settings(max_examples=60)
@given(any_corpus(), st.integers(2, 5), st.integers(0, 5))
def test_no_group_is_divided_and_every_instrument_is_in_every_fold(
    corpus: Corpus, folds: int, seed: int
) -> None:
    sides = corpus.folds(folds, seed)
    assert set(sides.values()) == set(range(folds))
    for fold in range(folds):
        assert (corpus.counts(sides, fold) > 0).all()


@settings(max_examples=60)
@given(single_label(), st.floats(0.02, 0.98), st.integers(2, 5), st.integers(0, 5))
def test_shares_are_kept_to_within_the_largest_group(
    corpus: Corpus, share: float, folds: int, seed: int
) -> None:
    total = corpus.labels.sum(axis=0)
    held = corpus.counts(corpus.held_out(share, seed), 1)
    assert (abs(held - share * total) <= LARGEST).all()
    sides = corpus.folds(folds, seed)
    for fold in range(folds):
        assert (abs(corpus.counts(sides, fold) - total / folds) <= LARGEST).all()


@pytest.mark.parametrize("share", [0.15, 0.25, 0.5])
def test_shares_with_several_instruments_per_clip_are_approximate(share: float) -> None:
    """There is no bound for a single corpus, so that many are looked at together."""
    dealt, drawn = [], []
    for seed in range(60):
        corpus = songs(20 + seed, seed)
        wanted = share * corpus.labels.sum(axis=0)
        dealt.append(np.mean(abs(corpus.counts(corpus.held_out(share), 1) - wanted)))
        names = list(corpus.groups)
        at_random = dict(zip(names, np.random.default_rng(seed).random(len(names)), strict=True))
        sides = {name: int(at_random[name] < share) for name in names}
        drawn.append(np.mean(abs(corpus.counts(sides, 1) - wanted)))
    assert np.mean(dealt) <= LARGEST / 4
    assert np.mean(dealt) <= np.mean(drawn) / 2


@settings(max_examples=30)
@given(any_corpus(), st.randoms(use_true_random=False))
def test_the_order_of_clips_does_not_matter(corpus: Corpus, random: "object") -> None:
    names, labels = corpus.names, corpus.labels
    order = list(range(len(names)))
    random.shuffle(order)
    shuffled = [names[index] for index in order]
    out = held_out(names, labels, SplitSettings())
    np.testing.assert_array_equal(held_out(shuffled, labels[order], SplitSettings()), out[order])
    folds = k_folds(names, labels, 3, 0)
    np.testing.assert_array_equal(k_folds(shuffled, labels[order], 3, 0), folds[order])


@settings(max_examples=60)
@given(any_corpus(), st.floats(0.05, 0.5), st.lists(st.integers(1, LARGEST), min_size=6))
def test_a_new_instrument_moves_no_group(corpus: Corpus, share: float, sizes: list[int]) -> None:
    larger = Corpus(dict(corpus.groups), corpus.instruments + 1)
    for number, clips in enumerate(sizes):
        larger.groups[f"new {number}"] = [frozenset({corpus.instruments})] * clips
    assert larger.held_out(share).items() >= corpus.held_out(share).items()
    assert larger.folds(5).items() >= corpus.folds(5).items()


@settings(max_examples=60)
@given(single_label(), st.floats(0.05, 0.5), st.integers(1, LARGEST), st.integers(0, 99))
def test_a_new_group_moves_no_group_of_another_instrument(
    corpus: Corpus, share: float, clips: int, name: int
) -> None:
    larger = corpus.with_group(f"new {name}", [frozenset({0})] * clips)
    before, after = corpus.held_out(share), larger.held_out(share)
    assert all(before[group] == after[group] for group in before if not group.startswith("0/"))
    before, after = corpus.folds(4), larger.folds(4)
    assert all(before[group] == after[group] for group in before if not group.startswith("0/"))


@settings(max_examples=100)
@given(single_label(), st.integers(1, LARGEST), st.integers(0, 999), st.data())
def test_a_new_group_moves_few_groups_of_its_own_instrument(
    corpus: Corpus, clips: int, name: int, data: st.DataObject
) -> None:
    larger = corpus.with_group(f"new {name}", [frozenset({0})] * clips)
    total = int(corpus.labels[:, 0].sum())
    largest = max(len(of) for group, of in larger.groups.items() if frozenset({0}) in of)
    assume(2 * largest <= total)
    share = data.draw(st.floats(largest / total, 1 - largest / total), "share")
    folds = data.draw(st.integers(2, min(5, total // largest)), "folds")

    def moved(before: dict[str, int], after: dict[str, int]) -> int:
        return sum(len(corpus.groups[name]) for name in before if before[name] != after[name])

    assert moved(corpus.held_out(share), larger.held_out(share)) < clips + largest
    assert moved(corpus.folds(folds), larger.folds(folds)) < (folds - 1) * (clips + largest)


@settings(max_examples=10)
@given(st.integers(0, 99))
def test_the_split_depends_on_the_seed(seed: int) -> None:
    corpus = Corpus({str(group): [frozenset({0})] * 2 for group in range(200)}, 1)
    assert corpus.held_out(seed=seed) == corpus.held_out(seed=seed)
    assert corpus.held_out(seed=seed) != corpus.held_out(seed=seed + 1)
    assert corpus.folds(5, seed) == corpus.folds(5, seed)
    assert corpus.folds(5, seed) != corpus.folds(5, seed + 1)


@given(st.data())
def test_by_source_what_is_heard_of_an_instrument_is_all_of_another_source(
    data: st.DataObject,
) -> None:
    sources = {0: ["a", "b", "c"], 1: ["a", "b"], 2: ["d"]}
    names, codes = [], []
    for instrument, its in sources.items():
        for source in its:
            for group in range(data.draw(st.integers(2, 4))):
                clips = data.draw(st.integers(1, 3))
                names += [group_in_source(f"group {instrument}{group}", str(source))] * clips
                codes += [instrument] * clips
    labels = np.eye(3, dtype=np.bool_)[codes]
    out = held_out(names, labels, SplitSettings(by="source", share=0.3, seed=0))
    for group in set(names):
        assert len({out[row] for row, name in enumerate(names) if name == group}) == 1
    for instrument in (0, 1):
        sides = [
            {source_of(names[row]) for row in np.flatnonzero((out == side) & labels[:, instrument])}
            for side in (True, False)
        ]
        assert sides[0]
        assert sides[1]
        assert not sides[0] & sides[1]
    assert {out[row] for row in np.flatnonzero(labels[:, 2])} == {True, False}


@pytest.mark.parametrize("seed", range(4))
def test_by_source_instruments_of_one_clip_are_held_out_together(seed: int) -> None:
    names, labels = [], []
    for source in "abcdef":
        for number, row in enumerate([[1, 1, 0], [0, 1, 1], [1, 0, 0]] * 2):
            names.append(group_in_source(f"group {number}", source))
            labels.append(row)
    out = held_out(names, np.array(labels) > 0, SplitSettings(by="source", share=0.3, seed=seed))
    held, rest = ({source_of(names[row]) for row in np.flatnonzero(out == side)} for side in (1, 0))
    assert held
    assert rest
    assert not held & rest


def test_by_source_a_group_of_several_instruments_is_on_one_side() -> None:
    names = [group_in_source("one", source) for source in "abcdef" for _ in range(2)]
    labels = np.tile(np.eye(2, dtype=np.bool_), (6, 1))
    out = held_out(names, labels, SplitSettings(by="source", share=0.3))
    assert (out[::2] == out[1::2]).all()


def test_holding_out_sources_needs_sources() -> None:
    labels = np.ones((4, 1), np.bool_)
    one = [group_in_source(group, "library") for group in "abcd"]
    with pytest.raises(IrmasError, match="no instrument has several sources to be held out by"):
        held_out(one, labels, SplitSettings(by="source"))
    with pytest.raises(IrmasError, match="no clip has a source to be held out by"):
        held_out(list("abcd"), labels, SplitSettings(by="source"))


def test_an_instrument_of_too_few_groups_is_named() -> None:
    groups = [*(f"voice {n}" for n in range(9)), "cello", "cello"]
    labels = np.stack([IRMAS.encode([name[:3]]) for name in groups])
    with pytest.raises(IrmasError, match=r"^instrument cel has too few groups of clips \(1\) to"):
        held_out(groups, labels, SplitSettings(), IRMAS)
    with pytest.raises(IrmasError, match=r"^instrument number 1 has too few groups"):
        held_out(groups, labels, SplitSettings())
    with pytest.raises(IrmasError, match=r"voi has .* \(9\) to be on all 10 sides of a split;"):
        k_folds(groups[:9], labels[:9], 10, 0, IRMAS)


def test_an_instrument_dealt_with_a_rarer_one_is_still_on_both_sides() -> None:
    a, b = frozenset({0}), frozenset({1})
    corpus = Corpus({f"both {n}": [a, b, b, b, b, b] for n in range(2)}, 2)
    corpus.groups |= {f"a {n}": [a] for n in range(3)}
    for seed in range(20):
        sides = corpus.held_out(0.4, seed)
        assert corpus.counts(sides, 0)[1] == corpus.counts(sides, 1)[1] == 5


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_clips_in_which_nothing_is_known_to_play_are_on_all_sides(seed: int, share: float) -> None:
    labels = np.zeros((400, 2), np.bool_)
    labels[:200, 0] = labels[100:200, 1] = True
    groups = [f"song {clip // 2}" for clip in range(400)]
    settings = SplitSettings(share=share, seed=seed)
    silent = held_out(groups, labels, settings)[200:]
    assert silent.mean() == pytest.approx(share, abs=2 / 200)
    folds = k_folds(groups, labels, 4, seed)[200:]
    assert (np.abs(np.bincount(folds, minlength=4) - 50) <= 2).all()


def test_clips_without_any_instrument_cannot_be_split() -> None:
    corpus = Corpus({str(number): [frozenset()] for number in range(20)}, 3)
    for split in (corpus.held_out, lambda: corpus.folds(5)):
        with pytest.raises(IrmasError, match="no clip has an instrument"):
            split()


def test_an_instrument_without_clips_is_ignored() -> None:
    groups = [str(number) for number in range(20)]
    labels = np.tile(IRMAS.encode(["voi"]), (20, 1))
    assert held_out(groups, labels, SplitSettings()).sum() == 3
    assert np.bincount(k_folds(groups, labels, 4, 0)).tolist() == [5, 5, 5, 5]


# All of IRMAS


def split_input(rows: list[dict[str, Any]], part: str) -> tuple[list[str], np.ndarray]:
    found = part_of(rows, part)
    labels = np.stack([IRMAS.encode(row["instruments"]) for row in found])
    return [row["group"] for row in found], labels


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_the_training_part_is_held_out_in_proportion(
    irmas_rows: list[dict[str, Any]], share: float
) -> None:
    groups, labels = split_input(irmas_rows, "training")
    for seed in range(5):
        out = held_out(groups, labels, SplitSettings(share=share, seed=seed))
        # Six clips are the largest group.
        assert (abs(labels[out].sum(axis=0) - share * labels.sum(axis=0)) <= 6).all()
        folds = k_folds(groups, labels, 5, seed)
        for fold in range(5):
            assert (abs(labels[folds == fold].sum(axis=0) - labels.sum(axis=0) / 5) <= 6).all()


def test_the_test_part_is_held_out_about_in_proportion(irmas_rows: list[dict[str, Any]]) -> None:
    groups, labels = split_input(irmas_rows, "testing")
    number = {name: index for index, name in enumerate(sorted(set(groups)))}
    songs = np.zeros((len(number), len(IRMAS)))
    np.add.at(songs, [number[name] for name in groups], labels)
    off, off_at_random = [], []
    for share in (0.15, 0.3, 0.5):
        for seed in range(40):
            settings = SplitSettings(share=share, seed=seed)
            out = held_out(groups, labels, settings)
            missed = abs(labels[out].sum(axis=0) - share * labels.sum(axis=0))
            assert (missed <= 1.5 * songs.max(axis=0)).all()
            off.append(missed / labels.sum(axis=0))
            drawn = songs[np.random.default_rng(seed).random(len(songs)) < share].sum(axis=0)
            off_at_random.append(abs(drawn / labels.sum(axis=0) - share))
    assert np.mean(off) < 0.025
    assert np.mean(off_at_random) > 0.07


def test_groups_that_are_enough_and_cannot_be_dealt_are_not_called_too_few() -> None:
    labels = np.random.default_rng(0).random((20, 20)) < 0.4
    with pytest.raises(IrmasError, match=r"^no split was found with instrument .* on all 5 sides"):
        k_folds([f"song {number}" for number in range(20)], labels, 5, seed=0)


@pytest.mark.parametrize("seed", range(8))
def test_of_clips_in_which_nothing_plays_the_share_is_held_out_too(seed: int) -> None:
    """Whatever the sizes of their groups: ten have 20 clips each, a hundred have 2."""
    sizes = [20] * 10 + [2] * 100
    groups = [f"empty {number}" for number, size in enumerate(sizes) for _ in range(size)]
    labels = np.zeros((len(groups) + 8, 1), np.bool_)
    labels[-8:] = True
    groups += [f"group {number}" for number in range(8)]
    out = held_out(groups, labels, SplitSettings(share=0.5, seed=seed))
    assert out[:-8].mean() == pytest.approx(0.5, abs=10 / 400)
