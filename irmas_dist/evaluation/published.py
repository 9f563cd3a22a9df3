"""Data sets that models are compared on, and published results on their test clips.

A figure stands here only with where it was read. Works differ in what they report and in how they
choose thresholds; where a work does not say the latter, nothing is assumed.
"""

from dataclasses import dataclass

from irmas_dist.config.decisions import Protocol
from irmas_dist.corpus import openmic
from irmas_dist.corpus.irmas import TEST_EXCERPTS
from irmas_dist.corpus.manifest import TESTING
from irmas_dist.instruments import IRMAS, Vocabulary


@dataclass(frozen=True)
class Published:
    """A published result.

    Attributes:
        work: Authors and year, or the name of a project that is no publication.
        how: The model, in few words.
        source: Where its figures were read: arXiv number, DOI or address.
        micro_f1: None where not reported, as the others.
        macro_f1: Of the instruments' F1s.
        lrap: Label ranking average precision.
        map: Mean average precision over instruments.
        protocol: How thresholds were chosen; None where the work does not state it.
    """

    work: str
    how: str
    source: str
    micro_f1: float | None = None
    macro_f1: float | None = None
    lrap: float | None = None
    map: float | None = None
    protocol: Protocol | None = None

    @property
    def decided(self) -> str:
        """The protocol; else that it is not stated, or nothing where no figure needs one."""
        needed = self.micro_f1 is not None or self.macro_f1 is not None
        return self.protocol or ("not stated" if needed else "")


@dataclass(frozen=True)
class Benchmark:
    """A data set whose test clips models are compared on.

    Attributes:
        name: Its name.
        clips: Number of its test clips; figures on others do not compare.
        metrics: Those that works report, by their names in `metrics.overall_metrics`.
        fixed: Whether its own baseline decides by one threshold chosen beforehand, as in the
            protocol ``fixed``.
        groups: What its clips are grouped by.
        works: In chronological order.
    """

    name: str
    clips: int
    metrics: tuple[str, ...]
    fixed: bool
    groups: str
    works: tuple[Published, ...]


_IRMAS = (
    Published(
        "Bosch et al. 2012", "Fuhrmann's SVM, source separation", "ISMIR 2012", 0.503, 0.432
    ),
    Published("Han et al. 2016", "CNN on log-mel", "arXiv:1605.09507, version 1", 0.602, 0.503),
    Published(
        "Han et al. 2017", "the same, other aggregation", "IEEE/ACM TASLP 25", 0.619, 0.513
    ),
    Published("Pons et al. 2017", "CNN, timbre-shaped filters", "arXiv:1703.06697", 0.589, 0.516),
    Published("Kratimenos et al. 2020", "VGG ensemble, mixing", "arXiv:1911.12505", 0.647, 0.546),
    Published(
        "Reghunath, Rajan 2022", "Swin ensemble", "doi:10.1186/s13636-022-00245-8", 0.66, 0.62
    ),
    # The weights that they released reach 0.682.
    Published(
        "Zhong et al. 2023", "IRNet, pre-trained on NSynth", "arXiv:2306.08850", 0.674, None, 0.814,
        protocol="oracle",
    ),
    Published("Lekshmi, Rajan 2025", "", "publication not traced again", 0.66, 0.58),
    Published(
        "Lekshmi, Dandamudi 2025", "CNN and involution ensemble",
        "doi:10.1007/s00034-025-03111-y; figures of github.com/cscprojishnu/Predominant-Music",
        0.76, 0.69,
    ),
    Published(
        "MusDetect", "PaSST, fine-tuned on mixtures; one threshold of 0.25",
        "github.com/timoniko/MusDetect", 0.6882, 0.6166,
    ),
)  # fmt: skip

_AMTFLOW = "huggingface.co/vaclis/amtflow"

_OPENMIC = (
    # The mean of the 20 F1s of presence that the notebook shows.
    Published(
        "Humphrey et al. 2018", "random forests on VGGish: the data set's tutorial",
        "github.com/cosmir/openmic-2018: examples/modeling-baseline.ipynb", macro_f1=0.705,
        protocol="fixed",
    ),
    Published("PureMIC 2021", "CNN on VGGish", "doi:10.1007/s11265-021-01661-3", map=0.701),
    # The weights that they released reach 0.85.
    Published("Koutini et al. 2022", "PaSST, fine-tuned", "arXiv:2110.05069", map=0.843),
    Published("Chong et al. 2022", "MaskSpec, fine-tuned", "arXiv:2204.12768", map=0.854),
    Published("Ding, Lerch 2023", "EAsT-KD, taught by PaSST", "arXiv:2306.17424", map=0.852),
    Published("AMTFlow: MERT", "probe of MERT-v1-330M", _AMTFLOW, macro_f1=0.740, map=0.818),
    Published("AMTFlow: MuQ", "probe of MuQ-large", _AMTFLOW, macro_f1=0.764, map=0.832),
    Published("AMTFlow: MATPAC", "probe of MATPAC, music", _AMTFLOW, macro_f1=0.792, map=0.860),
    Published("AMTFlow: AF3", "probe of Audio Flamingo 3", _AMTFLOW, macro_f1=0.793, map=0.861),
)  # fmt: skip

BENCHMARKS = {
    IRMAS.codes: Benchmark(
        "IRMAS", TEST_EXCERPTS, ("micro_f1", "macro_f1", "lrap"), False, "songs", _IRMAS
    ),
    openmic.OPENMIC.codes: Benchmark(
        "OpenMIC-2018", openmic.CLIPS[TESTING], ("map", "macro_f1", "micro_f1"), True, "artists",
        _OPENMIC,
    ),
}  # fmt: skip
"""By the codes of their instruments."""


def benchmark_of(vocabulary: Vocabulary) -> Benchmark | None:
    """Return the data set that has just these instruments; None if none is known."""
    return BENCHMARKS.get(vocabulary.codes)


def figures_of(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the metrics that models of these instruments are compared by."""
    benchmark = benchmark_of(vocabulary)
    return benchmark.metrics if benchmark else ("micro_f1", "macro_f1", "map")


def groups_of(vocabulary: Vocabulary) -> str:
    """Return what groups of clips of these instruments are, in the plural: songs, or artists."""
    benchmark = benchmark_of(vocabulary)
    return benchmark.groups if benchmark else "songs"
