from tests.evaluation.conftest import forest

__all__ = ["forest"]
