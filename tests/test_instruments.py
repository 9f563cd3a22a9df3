"""A vocabulary fixes the order of instruments in labels, scores and thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, Vocabulary

TRIO = Vocabulary.of({"vio": "violin", "cel": "cello", "pia": "piano"})


def test_a_vocabulary_keeps_the_order_in_which_instruments_are_given() -> None:
    assert TRIO.codes == ("vio", "cel", "pia")
    assert TRIO.names == ("violin", "cello", "piano")
    assert len(TRIO) == 3


def test_instruments_are_known_by_their_codes() -> None:
    assert "cel" in TRIO
    assert "cello" not in TRIO
    assert TRIO.name("cel") == "cello"


def test_labels_have_a_one_for_each_instrument_that_plays() -> None:
    labels = TRIO.encode(["pia", "vio", "pia"])
    assert labels.dtype == np.int8
    assert labels.tolist() == [1, 0, 1]
    assert TRIO.encode([]).tolist() == [0, 0, 0]


def test_an_unknown_instrument_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(IrmasError) as refused:
        TRIO.encode(["vio", "kazoo"])
    assert str(refused.value) == "unknown instrument 'kazoo'; this vocabulary has vio, cel, pia"


@pytest.mark.parametrize("labels", [[1, 0, 1], [True, False, True], np.array([2, 0, 1], np.int64)])
def test_instruments_are_listed_in_the_order_of_the_vocabulary(labels: list[int]) -> None:
    assert TRIO.decode(labels) == ["vio", "pia"]


@pytest.mark.parametrize("labels", [[], [1, 0], [1, 0, 0, 0]])
def test_labels_of_another_length_are_refused(labels: list[int]) -> None:
    with pytest.raises(IrmasError, match=f"expected 3 labels, .* got {len(labels)}"):
        TRIO.decode(labels)


@given(st.sets(st.sampled_from(IRMAS.codes)))
def test_decoding_undoes_encoding(instruments: set[str]) -> None:
    assert IRMAS.decode(IRMAS.encode(instruments)) == sorted(instruments, key=IRMAS.codes.index)


def test_the_instruments_of_irmas_are_eleven_in_the_published_order() -> None:
    assert " ".join(IRMAS.codes) == "cel cla flu gac gel org pia sax tru vio voi"
