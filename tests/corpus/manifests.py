"""Rows of manifests for tests."""

from typing import Any


def part_of(rows: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["part"] == part]


def row(clip: str, md5: str | None, *codes: str, **others: Any) -> dict[str, Any]:
    return {
        "clip_id": clip,
        "part": "training",
        "instruments": list(codes),
        "unknown": [],
        "group": f"file {clip}",
        "md5": md5,
        "problem": None,
        "duration_s": 1.0,
    } | others
