"""A simple baseline: logistic regression on the mean MFCCs of a clip.

One classifier per instrument on the means of 20 MFCCs by librosa, trained on the single-label
clips as they are, with thresholds fitted to out-of-fold scores, whole recordings left out.
"""

from collections.abc import Sequence
from typing import Any

import joblib
import librosa
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.arrays import Labels
from irmas_dist.evaluation.thresholds import fit_thresholds

Float32 = npt.NDArray[np.float32]


def mfcc_baseline(
    training: Sequence[dict[str, Any]],
    labels: Labels,
    testing: Sequence[dict[str, Any]],
    settings: ThresholdSettings,
) -> tuple[Float32, Float32]:
    """Train on one part of a manifest and score another.

    Args:
        training: Rows of the manifest to train on.
        labels: Their labels, shape (training clips, instruments).
        testing: Rows of the manifest to score.
        settings: How thresholds are fitted.

    Returns:
        Scores of the testing clips, shape (testing clips, instruments), and thresholds,
        shape (instruments,).
    """
    files = [clip["path"] for clip in (*training, *testing)]
    means = np.stack(joblib.Parallel(n_jobs=-1)(joblib.delayed(mfcc_means)(f) for f in files))
    training_means, testing_means = means[: len(training)], means[len(training) :]
    model = OneVsRestClassifier(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000, class_weight="balanced"))
    )
    groups = [clip["group"] for clip in training]
    out_of_fold = cross_val_predict(
        model, training_means, labels, groups=groups, cv=GroupKFold(5), method="predict_proba"
    )
    thresholds = fit_thresholds(labels, out_of_fold.astype(np.float32), settings)
    scores = model.fit(training_means, labels).predict_proba(testing_means)
    return scores.astype(np.float32), thresholds


def mfcc_means(path: str) -> Float32:
    """Return the means over time of 20 MFCCs of an audio file, shape (20,)."""
    samples, rate = librosa.load(path, sr=22_050)
    return np.asarray(librosa.feature.mfcc(y=samples, sr=rate).mean(axis=1), np.float32)
