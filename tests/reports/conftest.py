from tests.evaluation.conftest import forest
from tests.inference.conftest import excerpts, make_model, model

__all__ = ["excerpts", "forest", "make_model", "model"]
