"""A process scores the windows of a replica, with the models that it was told to load."""

import asyncio
import math
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.inference.predictor import Predictor
from irmas_dist.serving import messages
from irmas_dist.serving.models import ServedModel
from irmas_dist.serving.scoring import Scoring, ScoringError
from tests.inference.conftest import MakeModel


def windows(model: ServedModel, count: int) -> np.ndarray:
    shape = (count, model.description.features.bands, model.description.windows.frames)
    return np.random.default_rng(count).normal(-4, 1, shape).astype(np.float32)


def test_scores_are_those_of_the_predictor(make_model: MakeModel) -> None:
    read = [ServedModel.read("a", make_model()), ServedModel.read("b", make_model(width=12))]
    ends: list[int] = []

    async def scenario() -> None:
        scoring = Scoring("cpu", threads=1, limit_s=60, on_end=ends.append)
        for model, weights in read:
            # As of a model with an epoch that diverged, and an instrument that no clip has.
            history = [{"epoch": 1, "loss": math.inf, "val_macro_f1": math.nan}]
            description = model.description.model_copy(update={"history": history})
            await scoring.load(replace(model, description=description), weights)
        asked = [(model, windows(model, count)) for count in (1, 40) for model, _ in read]
        found = await asyncio.gather(*(scoring.score(model.digest, mel) for model, mel in asked))
        for (model, mel), scores in zip(asked, found, strict=True):
            expected = Predictor.load(model.directory, "cpu").score_batches(mel)
            np.testing.assert_allclose(scores, expected, atol=1e-6)
        with pytest.raises(IrmasError, match="damaged"):
            await scoring.load(read[0][0], b"damaged")
        with pytest.raises(ScoringError, match="KeyError"):
            await scoring.score("unknown", asked[0][1])
        await scoring.keep([read[1][0]])
        with pytest.raises(ScoringError, match="KeyError"):
            await scoring.score(read[0][0].digest, asked[0][1])
        assert scoring._process is not None
        scoring._process.kill()
        with pytest.raises(ScoringError, match="has ended"):
            await scoring.score(read[1][0].digest, asked[1][1])
        # By now, so that no replica answers once more before it ends.
        assert ends == [-signal.SIGKILL]

    asyncio.run(scenario())


def test_a_process_that_hangs_is_killed(make_model: MakeModel) -> None:
    """Whoever keeps it then ends, and is replaced."""
    model, weights = ServedModel.read("a", make_model())
    ends: list[int] = []

    async def scenario() -> None:
        scoring = Scoring("cpu", threads=1, limit_s=60, on_end=ends.append)
        await scoring.load(model, weights)
        assert scoring._process is not None
        scoring._process.send_signal(signal.SIGSTOP)
        scoring._limit_s = 0.1
        with pytest.raises(ScoringError, match=r"^no scores within 0\.1 s$"):
            await scoring.score(model.digest, windows(model, 1))
        assert ends == [-signal.SIGKILL]

    asyncio.run(scenario())


@pytest.mark.parametrize("values", [None, np.zeros((0, 3), "<f2"), np.arange(6.0).reshape(2, 3)])
def test_messages_arrive_as_they_were_sent(values: np.ndarray | None, tmp_path: Path) -> None:
    sent = messages.as_bytes("a", values, note="höre\n")
    file = tmp_path / "messages"
    file.write_bytes(2 * sent)
    with file.open("rb") as stream:
        for header, found in (messages.read(stream) or (), messages.read(stream) or ()):
            assert (header["kind"], header["note"]) == ("a", "höre\n")
            np.testing.assert_array_equal(found, np.zeros(0) if values is None else values)
        assert messages.read(stream) is None

    async def received() -> messages.Message:
        stream = asyncio.StreamReader()
        stream.feed_data(sent[:-1] if values is not None and values.size else b"")
        stream.feed_eof()
        return await messages.receive(stream)

    with pytest.raises(EOFError):
        asyncio.run(received())
