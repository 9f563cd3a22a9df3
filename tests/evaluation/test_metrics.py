import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from irmas_dist.evaluation import metrics
from irmas_dist.evaluation.arrays import validate
from irmas_dist.evaluation.calibration import BINS
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.instruments import IRMAS, UNKNOWN

CLOSE = 1e-9


def scikit_learn(labels, scores, thresholds):
    """The same metrics by scikit-learn."""
    decisions = decide(scores, thresholds)
    result = {}
    for average in ("micro", "macro", "weighted"):
        precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
            labels, decisions, average=average, zero_division=0
        )
        result |= {
            f"{average}_precision": precision,
            f"{average}_recall": recall,
            f"{average}_f1": f1,
        }
    loss = sklearn.metrics.hamming_loss(labels, decisions)
    columns = list(zip(labels.T, scores.T, strict=True))
    return result | {
        "subset_accuracy": sklearn.metrics.accuracy_score(labels, decisions),
        "label_accuracy": 1 - loss,
        "hamming_loss": loss,
        "lrap": sklearn.metrics.label_ranking_average_precision_score(labels, scores),
        "coverage_error": sklearn.metrics.coverage_error(labels, scores),
        "map": np.mean([ap_by_scikit_learn(*column) for column in columns]),
        "roc_auc": np.mean([auc_by_scikit_learn(*column) for column in columns]),
        "ece": np.mean([ece_by_scikit_learn(*column) for column in columns]),
    }


def ap_by_scikit_learn(labels, scores):
    return sklearn.metrics.average_precision_score(labels, scores) if labels.any() else 0


def auc_by_scikit_learn(labels, scores):
    return sklearn.metrics.roc_auc_score(labels, scores) if 0 < labels.mean() < 1 else 0.5


def ece_by_scikit_learn(labels, scores):
    # By the middles of the bins: as float64, scores on an edge are on either side of it.
    edges = np.linspace(0, 1, BINS + 1)[1:-1].astype(np.float32)
    bins = np.digitize(scores, edges, right=True)
    frequency, _ = calibration_curve(labels, (bins + 0.5) / BINS, n_bins=BINS)
    in_bin, total = np.bincount(bins), np.bincount(bins, scores.astype(np.float64))
    mean_score = total[in_bin > 0] / in_bin[in_bin > 0]
    return np.average(np.abs(frequency - mean_score), weights=in_bin[in_bin > 0])


def test_the_labels_of_irmas_are_what_the_data_set_says(forest):
    counts = [111, 62, 163, 535, 942, 361, 995, 326, 167, 211, 1044]
    assert forest.labels.shape == (2874, 11)
    assert forest.labels.sum(axis=0).tolist() == counts
    assert np.bincount(forest.labels.sum(axis=1)).tolist() == [0, 1236, 1278, 318, 39, 3]
    assert len(set(forest.groups)) == 208


@pytest.mark.parametrize(
    ("threshold", "micro_f1", "macro_f1"),
    [
        (0.0, 0.2692, 0.2502),  # predicts every instrument for every clip
        (0.1, 0.4456, 0.3511),
        (0.14, 0.4607, 0.3448),
        (0.2, 0.4322, 0.2937),
    ],
)
def test_known_figures_of_a_forest_on_irmas(forest, threshold, micro_f1, macro_f1):
    result = metrics.overall_metrics(forest.labels, forest.scores, threshold)
    assert result["micro_f1"] == pytest.approx(micro_f1, abs=5e-5)
    assert result["macro_f1"] == pytest.approx(macro_f1, abs=5e-5)
    assert result["lrap"] == pytest.approx(0.6169, abs=5e-5)
    assert result["map"] == pytest.approx(0.3260, abs=5e-5)


@pytest.mark.parametrize("threshold", [0.14, 1.1])
def test_a_forest_on_irmas_against_scikit_learn(forest, threshold):
    ours = metrics.overall_metrics(forest.labels, forest.scores, threshold)
    theirs = scikit_learn(forest.labels, forest.scores, threshold)
    assert ours == pytest.approx(theirs, abs=CLOSE)


def test_a_score_on_an_edge_belongs_to_the_bin_below():
    """In one bin, errors of .6 and .7 would cancel."""
    scores = np.repeat(np.array([0.6, 0.7], np.float32), 100)[:, None]
    labels = (np.arange(200) < 70) | (np.arange(200) >= 140)
    assert metrics.overall_metrics(labels[:, None].astype(np.int8), scores, 0.5)["ece"] == (
        pytest.approx(0.1)
    )


def test_each_instrument_against_scikit_learn(forest):
    decisions = decide(forest.scores, 0.14)
    rows = metrics.per_instrument(forest.labels, forest.scores, decisions, IRMAS)
    theirs = sklearn.metrics.precision_recall_fscore_support(
        forest.labels, decisions, average=None, zero_division=0
    )
    for key, values in zip(("precision", "recall", "f1", "clips"), theirs, strict=True):
        assert [row[key] for row in rows] == pytest.approx(values.tolist(), abs=CLOSE)
    ap = sklearn.metrics.average_precision_score(forest.labels, forest.scores, average=None)
    assert [row["ap"] for row in rows] == pytest.approx(ap.tolist(), abs=CLOSE)
    auc = sklearn.metrics.roc_auc_score(forest.labels, forest.scores, average=None)
    assert [row["roc_auc"] for row in rows] == pytest.approx(auc.tolist(), abs=CLOSE)
    columns = zip(forest.labels.T, forest.scores.T, strict=True)
    ece = [ece_by_scikit_learn(*column) for column in columns]
    assert [row["ece"] for row in rows] == pytest.approx(ece, abs=CLOSE)
    assert [row["code"] for row in rows] == list(IRMAS.codes)
    assert [row["name"] for row in rows] == list(IRMAS.names)


@st.composite
def labelled_scores(draw):
    """Labels and scores with ties, empty clips, and instruments that never occur."""
    shape = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = (rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))).astype(np.uint8)
    labels[:, rng.random(shape[1]) < 0.2] = 0
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = (rng.integers(0, levels + 1, shape) / levels).astype(np.float32)
    return labels, scores


@settings(max_examples=100)
@given(labelled_scores(), st.sampled_from([0.0, 0.3, 0.5, 1.0, 1.1]))
def test_anything_against_scikit_learn(labelled, threshold):
    labels, scores = labelled
    ours = metrics.overall_metrics(labels, scores, threshold)
    assert ours == pytest.approx(scikit_learn(labels, scores, threshold), abs=CLOSE)


def test_ranking_metrics_are_those_of_all_metrics(forest):
    labels = forest.labels.copy()
    labels[::3, 2] = labels[5, :] = UNKNOWN
    every = metrics.first_draw(metrics.score_figures(labels, forest.scores).overall)
    ranking = metrics.ranking_metrics(labels, forest.scores)
    assert ranking == {name: every[name] for name in ("lrap", "map")}


def test_perfect_scores_have_metrics_of_1_and_no_error():
    labels = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]], dtype=np.uint8)
    result = metrics.overall_metrics(labels, labels.astype(np.float32), 0.5)
    assert result.pop("coverage_error") == 2  # instruments per clip, the optimum
    assert {result.pop("ece"), result.pop("hamming_loss")} == {0.0}
    # The third clip has all instruments, so none can be ranked wrongly.
    assert set(result.values()) == {1.0}


def test_predicting_nothing_has_metrics_of_0_but_a_low_hamming_loss():
    labels = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], dtype=np.uint8)
    nothing = np.zeros_like(labels)
    result = metrics.decision_metrics(labels, nothing)
    assert result.pop("hamming_loss") == 0.25
    assert result.pop("label_accuracy") == 0.75
    assert set(result.values()) == {0.0}


def test_an_instrument_that_never_occurs_counts_as_0_in_macro_averages():
    labels = np.array([[1, 0], [1, 0]], dtype=np.uint8)
    result = metrics.overall_metrics(labels, labels.astype(np.float32), 0.5)
    assert result["micro_f1"] == 1
    assert result["macro_f1"] == 0.5
    assert result["map"] == 0.5


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2)), "one shape"),
        (np.zeros(3, int), np.zeros(3), "one shape"),
        (np.zeros((0, 3), int), np.zeros((0, 3)), "not be empty"),
        (np.full((2, 3), 2), np.zeros((2, 3)), "0, 1 or -1"),
        (np.zeros((2, 3), int), np.full((2, 3), np.nan), "finite"),
    ],
)
def test_arrays_of_other_shapes_or_values_are_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        validate(labels, scores)
    with pytest.raises(ValueError, match=message):
        metrics.overall_metrics(labels, scores, 0.5)
