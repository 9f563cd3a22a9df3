"""Published results: each with its source, beside scores of the same data set only."""

import numpy as np
import pytest

from irmas_dist.corpus.openmic import OPENMIC
from irmas_dist.evaluation.metrics import overall_metrics
from irmas_dist.evaluation.published import BENCHMARKS, Benchmark, benchmark_of
from irmas_dist.instruments import IRMAS, Vocabulary


@pytest.fixture(params=BENCHMARKS.values(), ids=lambda benchmark: benchmark.name)
def benchmark(request: pytest.FixtureRequest) -> Benchmark:
    found: Benchmark = request.param
    return found


def test_each_work_has_figures_of_the_data_set_s_metrics_and_a_source(
    benchmark: Benchmark,
) -> None:
    for work in benchmark.works:
        figures = [getattr(work, metric) for metric in benchmark.metrics]
        assert any(figures), work.work
        assert all(0.4 < value < 1 for value in figures if value is not None), work.work
        assert work.source, work.work


def test_metrics_of_works_are_metrics_of_ours(benchmark: Benchmark) -> None:
    ours = overall_metrics(np.eye(2, dtype=np.int8), np.eye(2), 0.5)
    assert set(benchmark.metrics) <= ours.keys()


def test_a_work_that_chose_its_threshold_on_the_test_is_marked() -> None:
    [irmas] = [found for found in BENCHMARKS.values() if found.name == "IRMAS"]
    assert [work.work for work in irmas.works if work.protocol == "oracle"] == ["Zhong et al. 2023"]


def test_a_data_set_is_known_by_its_instruments_in_their_order() -> None:
    found = [benchmark_of(vocabulary) for vocabulary in (IRMAS, OPENMIC)]
    assert [known.name for known in found if known] == ["IRMAS", "OpenMIC-2018"]
    assert benchmark_of(Vocabulary.of({"pia": "Klavier"})) is None
    translated = Vocabulary(IRMAS.codes, tuple(code.upper() for code in IRMAS.codes))
    assert benchmark_of(translated) == benchmark_of(IRMAS)
