"""What others have reported of models trained on IRMAS's training part, tested on its testing.

None of these works says how sure its figures are, and few say all that would be needed to
compare to the third digit: read differences of a point or two as none.
"""

from dataclasses import dataclass

from irmas_dist.evaluation.protocols import Protocol


@dataclass(frozen=True)
class Published:
    """A published result.

    Attributes:
        work: Authors and year.
        how: The model, in few words.
        micro_f1: None where not reported, as the others.
        macro_f1: Of the instruments' F1s.
        lrap: Label ranking average precision.
        protocol: How thresholds were chosen; None where the work does not tell, or not enough.
    """

    work: str
    how: str
    micro_f1: float | None
    macro_f1: float | None
    lrap: float | None = None
    protocol: Protocol | None = None


PUBLISHED = (
    Published("Bosch et al. 2012", "Fuhrmann's SVM, source separation", 0.503, 0.432),
    # arXiv:1605.09507, version 1; then IEEE/ACM TASLP 25.
    Published("Han et al. 2016", "CNN on log-mel", 0.602, 0.503),
    Published("Han et al. 2017", "the same, other aggregation", 0.619, 0.513),
    Published("Pons et al. 2017", "CNN, timbre-shaped filters", 0.589, 0.516),
    Published("Kratimenos et al. 2020", "VGG ensemble, mixing", 0.647, 0.546),
    Published("Reghunath, Rajan 2022", "Swin ensemble", 0.66, 0.62),
    # The weights that they released reach 0.682.
    Published("Zhong et al. 2023", "IRNet, pre-trained on NSynth", 0.674, None, 0.814, "oracle"),
    Published("Lekshmi, Rajan 2025", "", 0.66, 0.58),
)
"""In order of time."""
