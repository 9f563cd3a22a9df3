"""Instruments under other codes: one guitar for both, and two vocabularies that meet."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.merging import (
    Merge,
    new_codes,
    read_mapping,
    require_known,
    shared,
)
from irmas_dist.evaluation.scores import Scores
from irmas_dist.instruments import IRMAS, UNKNOWN, Vocabulary

GUITARS = {"gac": "guitar", "gel": "guitar"}


def test_codes_without_a_new_one_keep_code_and_name() -> None:
    merge = Merge.of(IRMAS, GUITARS)
    codes = ("cel", "cla", "flu", "guitar", "org", "pia", "sax", "tru", "vio", "voi")
    assert merge.vocabulary.codes == codes
    assert merge.vocabulary.names[:4] == ("cello", "clarinet", "flute", "guitar")
    assert merge.members[3] == (3, 4)
    renamed = Merge.of(IRMAS, {"pia": "org"})  # under the code of an instrument that there is
    assert renamed.vocabulary.name("org") == "organ"


def test_the_surest_member_decides_and_one_that_plays_is_enough() -> None:
    vocabulary = Vocabulary.of({"a": "A", "b": "B", "c": "C"})
    labels = np.array([[1, 0, 0], [0, UNKNOWN, 0], [1, UNKNOWN, 0], [0, 0, UNKNOWN]])
    scores = np.array([[0.2, 0.7, 0.1], [0.9, 0.3, 0], [0, 0, 1], [0.5, 0.5, 0.5]], np.float32)
    clips = [str(clip) for clip in range(4)]
    merged = Merge.of(vocabulary, {"a": "x", "b": "x"})(
        Scores(clips, ["testing"] * 4, clips, labels, scores, vocabulary)
    )
    assert merged.vocabulary.codes == ("x", "c")
    assert merged.labels.tolist() == [[1, 0], [UNKNOWN, 0], [1, 0], [0, UNKNOWN]]
    np.testing.assert_array_equal(merged.scores[:, 0], scores[:, :2].max(axis=1))
    np.testing.assert_array_equal(merged.scores[:, 1], scores[:, 2])


@settings(max_examples=50)
@given(st.data())
def test_merging_twice_is_merging_once(data: st.DataObject) -> None:
    codes = [f"i{number}" for number in range(6)]
    vocabulary = Vocabulary(tuple(codes), tuple(codes))
    families = st.sampled_from(["x", "y", "z"])
    first = data.draw(st.dictionaries(st.sampled_from(codes), families))
    second = data.draw(st.dictionaries(families, st.sampled_from(["p", "q"])))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    labels = rng.choice([0, 1, UNKNOWN], (20, 6))
    scores = rng.random((20, 6), np.float32)
    clips = [str(clip) for clip in range(20)]
    table = Scores(clips, ["testing"] * 20, clips, labels, scores, vocabulary)
    once = Merge.of(vocabulary, {
        code: second.get(first.get(code, code), first.get(code, code)) for code in codes
    })(table)  # fmt: skip
    merged = Merge.of(vocabulary, first)(table)
    twice = Merge.of(merged.vocabulary, second)(merged)
    order = [twice.vocabulary.codes.index(code) for code in once.vocabulary.codes]
    np.testing.assert_array_equal(twice.labels[:, order], once.labels)
    np.testing.assert_array_equal(twice.scores[:, order], once.scores)


def test_two_vocabularies_meet_in_the_codes_of_both() -> None:
    theirs = Vocabulary.of({"voice": "voice", "guitar": "guitar", "drums": "drums"})
    mapping = GUITARS | {"voi": "voice"}
    ours, others, notes = shared(IRMAS, theirs, mapping, "store")
    assert ours.vocabulary.codes == others.vocabulary.codes == ("voice", "guitar")
    assert ours.members == ((10,), (3, 4))
    assert others.members == ((0,), (1,))
    assert notes[0] == "left out, not in the model: drums"
    assert notes[1].startswith("left out, without labels: cel, cla,")
    with pytest.raises(IrmasError, match=r"store has none of the model's .* with --map"):
        shared(IRMAS, Vocabulary.of({"guitar": "guitar"}), {}, "store")


def test_instruments_of_one_name_are_the_same_unless_they_are_mapped() -> None:
    theirs = Vocabulary.of({"cello": "Cello", "guitar": "guitar", "cel": "celesta", "v": "voice"})
    ours, others, notes = shared(IRMAS, theirs, GUITARS, "store")
    assert others.vocabulary.codes == ("guitar", "cel", "v")
    assert ours.members[-1] == (IRMAS.codes.index("voi"),)
    assert "the same by their names: voi=v" in notes
    theirs = Vocabulary.of({"cello": "Cello", "guitar": "guitar", "v": "voice"})
    _, others, _ = shared(IRMAS, theirs, {"cel": "low", "voi": "guitar"}, "store")
    assert others.vocabulary.codes == ("guitar",)


def test_a_whole_of_which_the_clips_lack_a_part_is_unknown_where_the_others_do_not_play() -> None:
    theirs = Vocabulary.of({"gac": "acoustic guitar", "voi": "voice"})
    _, labelled, notes = shared(IRMAS, theirs, GUITARS, "store")
    assert labelled.vocabulary.codes == ("guitar", "voi")
    found = labelled.labels(np.array([[1, 0], [0, 1], [UNKNOWN, 0]], np.int8))
    assert found.tolist() == [[1, 0], [UNKNOWN, 1], [UNKNOWN, 0]]
    assert "guitar is unknown where none of it plays: store has no labels of gel" in notes


def test_a_whole_that_the_clips_have_labels_of_is_known() -> None:
    theirs = Vocabulary.of({"guitar": "guitar", "gac": "acoustic guitar"})
    _, labelled, notes = shared(IRMAS, theirs, GUITARS, "store")
    assert labelled.labels(np.array([[0, 0]], np.int8)).tolist() == [[0]]
    assert not any("unknown" in note for note in notes)


def test_two_names_of_one_thing_may_meet_in_a_third() -> None:
    theirs = Vocabulary.of({"guitar": "guitar", "voice": "voice"})
    mapping = {"gac": "g", "gel": "g", "guitar": "g", "voi": "v", "voice": "v"}
    _, labelled, notes = shared(IRMAS, theirs, mapping, "store")
    assert labelled.labels(np.array([[0, 0]], np.int8)).tolist() == [[0, 0]]
    assert not any("unknown" in note or "know" in note for note in notes)
    assert "g: the model's gac and gel and store's guitar count as the same" in notes


def test_a_code_that_is_mapped_away_is_not_the_whole_of_that_name() -> None:
    ours, theirs = (Vocabulary.of(dict.fromkeys(text, "")) for text in ("abx", "bx"))
    _, labelled, _ = shared(ours, theirs, {"a": "b", "b": "c", "x": "b"}, "store")
    assert labelled.partial == {"b"}


def test_a_part_that_the_model_does_not_know_is_said() -> None:
    ours = Vocabulary.of({"gac": "acoustic guitar", "voi": "voice"})
    scored, _, notes = shared(ours, IRMAS, GUITARS, "store")
    assert scored.members[scored.vocabulary.codes.index("guitar")] == (0,)
    assert "guitar: the model does not know gel" in notes


def test_a_mapping_is_pairs_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("gac: guitar\ngel: guitar\n")
    assert read_mapping("gac=guitar, gel=guitar") == GUITARS
    assert read_mapping(str(tmp_path / "map.yaml")) == GUITARS
    (tmp_path / "bad.yaml").write_text("gac: [guitar]\n")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "pipe.yaml").write_text("gac: a|b\n")
    for text, message in {
        "gac=guitar,gel=": "expected code=code, such as gac=guitar, not 'gel='",
        "gac=guitar,,": "not ''",
        "gac=a,gac=b": "gac is mapped to a and to b",
        "gac=strings;vio=strings": "'strings;vio=strings' is no code: it contains = or ;",
        "gac=a=b": "'a=b' is no code",
        "gac=path": "'path' cannot be the code of an instrument",
        "gac=?": "cannot be the code",
        str(tmp_path / "pipe.yaml"): r"pipe.yaml: gac: 'a\|b' cannot be the code",
        str(tmp_path / "none.yaml"): "none.yaml",
        str(tmp_path): "expected code=code, such as gac=guitar, or a YAML file",
        str(tmp_path / "empty.yaml"): "empty.yaml maps nothing: write codes as gac: guitar",
        str(tmp_path / "bad.yaml"): "gac: expected a code",
    }.items():
        with pytest.raises(IrmasError, match=message):
            read_mapping(text)
    with pytest.raises(IrmasError, match="--map gca=guitar: gca is none of cel"):
        require_known({"gca": "guitar"}, IRMAS)
    with pytest.raises(IrmasError, match="--at family gca=guitar: gca is none of cel"):
        require_known({"gca": "guitar"}, IRMAS, given="--at family")


def test_families_are_a_mapping_of_their_instruments() -> None:
    assert new_codes(None, {"guitar": ("gac", "gel")}) == GUITARS
    with pytest.raises(IrmasError, match="the recipe has no families"):
        new_codes(None, {})
