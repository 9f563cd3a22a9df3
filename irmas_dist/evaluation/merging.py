"""Instruments read at another level: several under one code, such as both guitars as guitar.

Two vocabularies meet this way: a model that tells acoustic from electric guitar is judged on clips
that are labelled with guitar alone, and the other way round.

The score of several instruments together is the highest of theirs, as the surest of them decides
whether one plays. Together they play where one does; else, where one is unknown, nobody says.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from irmas_dist.config.corpus import NO_CODE, is_code
from irmas_dist.config.yaml_files import read_yaml
from irmas_dist.errors import IrmasError, UsageError
from irmas_dist.evaluation.arrays import Labels, ScoreArray, union
from irmas_dist.evaluation.scores import Scores
from irmas_dist.instruments import UNKNOWN, Vocabulary


def read_mapping(text: str) -> dict[str, str]:
    """Return the new code of each code, from ``gac=guitar,gel=guitar`` or a YAML file of them.

    Raises:
        IrmasError: It is neither, or a new code is none.
    """
    if "=" not in text:
        if not Path(text).is_file():
            raise UsageError(
                f"--map {text}: expected code=code, such as gac=guitar, or a YAML file of them"
            )
        content = read_yaml(Path(text)).content
        if not content:
            raise IrmasError(f"{text} maps nothing: write codes as gac: guitar")
        for code, new in content.items():
            if not isinstance(new, str):
                raise IrmasError(f"{text}: {code}: expected a code, such as gac: guitar")
            _require_code(new, f"{text}: {code}")
        return content
    mapping: dict[str, str] = {}
    for pair in text.split(","):
        code, _, new = (part.strip() for part in pair.partition("="))
        if not code or not new:
            raise UsageError(f"--map {text}: expected code=code, such as gac=guitar, not {pair!r}")
        if mapping.setdefault(code, new) != new:
            raise UsageError(f"--map {text}: {code} is mapped to {mapping[code]} and to {new}")
        _require_code(new, f"--map {text}")
    return mapping


def _require_code(new: str, where: str) -> None:
    if set(new) & set("=;"):
        raise IrmasError(
            f"{where}: {new!r} is no code: it contains = or ;, and pairs are separated by commas"
        )
    if not is_code(new):
        raise IrmasError(f"{where}: {new!r} {NO_CODE}")


def new_codes(mapping: str | None, families: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the mapping that ``--map`` gives, or else that of instruments to their families.

    Raises:
        IrmasError: It cannot be read, or there is neither.
    """
    if mapping is not None:
        return read_mapping(mapping)
    if not families:
        raise UsageError("--at family: the recipe has no families (corpus.families); see --map")
    return {code: family for family, codes in families.items() for code in codes}


def require_known(
    mapping: Mapping[str, str], *vocabularies: Vocabulary, given: str = "--map"
) -> None:
    """Refuse a mapping of codes that no vocabulary has; it is ``given`` by an option.

    Raises:
        IrmasError: There is one; it is named.
    """
    for code in mapping:
        if not any(code in vocabulary for vocabulary in vocabularies):
            known = dict.fromkeys(", ".join(vocabulary.codes) for vocabulary in vocabularies)
            has = " or ".join(known)
            raise UsageError(f"{given} {code}={mapping[code]}: {code} is none of {has}")


@dataclass(frozen=True)
class Merge:
    """Instruments under the codes that a mapping gives them.

    Attributes:
        vocabulary: The new codes; a code that is new in name, too, is its own name.
        members: The columns of the old vocabulary that make up each new one.
        partial: New codes of which the old vocabulary lacks instruments: that these do not play
            is not known.
    """

    vocabulary: Vocabulary
    members: tuple[tuple[int, ...], ...]
    partial: frozenset[str] = frozenset()

    @classmethod
    def of(cls, vocabulary: Vocabulary, mapping: Mapping[str, str]) -> "Merge":
        """Return the merge of a vocabulary; codes without a new one keep theirs."""
        members: dict[str, list[int]] = {}
        for column, code in enumerate(vocabulary.codes):
            members.setdefault(mapping.get(code, code), []).append(column)
        names = (vocabulary.name(code) if code in vocabulary else code for code in members)
        merged = Vocabulary(tuple(members), tuple(names))
        return cls(merged, tuple(map(tuple, members.values())))

    def only(self, codes: Sequence[str]) -> "Merge":
        """Return the merge of some of the new codes, in that order."""
        columns = [self.vocabulary.codes.index(code) for code in codes]
        names = tuple(self.vocabulary.names[column] for column in columns)
        members = tuple(self.members[column] for column in columns)
        return replace(self, vocabulary=Vocabulary(tuple(codes), names), members=members)

    def without(self, columns: Collection[int]) -> "Merge":
        """Return the merge in which old columns are members of no code that has others."""
        kept = (tuple(c for c in of if c not in columns) or of for of in self.members)
        return replace(self, members=tuple(kept))

    def scores(self, scores: ScoreArray) -> ScoreArray:
        """Return the highest score of each new code's members, shape (clips, new codes)."""
        return np.stack([scores[:, columns].max(axis=1) for columns in self.members], axis=1)

    def labels(self, labels: Labels) -> Labels:
        """Return the union of the labels of each new code's members, shape (clips, new codes)."""
        merged = np.stack([union(labels[:, columns], axis=1) for columns in self.members], axis=1)
        partial = np.array([code in self.partial for code in self.vocabulary.codes])
        return np.where(partial & (merged == 0), UNKNOWN, merged).astype(labels.dtype)

    def __call__(self, scores: Scores) -> Scores:
        """Return scores and labels under the new codes."""
        return replace(
            scores,
            labels=self.labels(scores.labels),
            scores=self.scores(scores.scores).astype(np.float32),
            vocabulary=self.vocabulary,
        )


def shared(
    ours: Vocabulary, theirs: Vocabulary, mapping: Mapping[str, str], where: str
) -> tuple[Merge, Merge, list[str]]:
    """Return two merges with the codes that both have, and a line on each thing that is left out.

    Instruments of one name are the same where only their codes differ and none of them is mapped.

    Args:
        ours: Instruments of the scores.
        theirs: Those of the labels, whose order is kept.
        mapping: New codes of both; others keep theirs.
        where: What has the labels, for errors.

    Raises:
        IrmasError: They have no code in common.
    """
    named = _of_one_name(ours, theirs, mapping)
    mapping = {**named, **mapping}
    scored, labelled = Merge.of(ours, mapping), Merge.of(theirs, mapping)
    codes = [code for code in labelled.vocabulary.codes if code in scored.vocabulary]
    if not codes:
        raise IrmasError(
            f"{where} has none of the model's instruments: it has "
            f"{', '.join(labelled.vocabulary.codes)}, the model "
            f"{', '.join(scored.vocabulary.codes)}; say with --map which are the same"
        )
    notes = [
        f"left out, {reason}: {', '.join(others)}"
        for reason, vocabulary in {
            "not in the model": labelled.vocabulary,
            "without labels": scored.vocabulary,
        }.items()
        if (others := _without(vocabulary.codes, codes))
    ]
    if named:
        pairs = ", ".join(f"{code}={new}" for code, new in named.items())
        notes.append(f"the same by their names: {pairs}")
    partial = set()
    for new in codes:
        scores, labels = (
            [code for code in side.codes if mapping.get(code, code) == new]
            for side in (ours, theirs)
        )
        if new not in (*scores, *labels) and set(scores).isdisjoint(labels):
            notes.append(
                f"{new}: the model's {' and '.join(scores)} and {where}'s {' and '.join(labels)} "
                "count as the same"
            )
        if missing := _lacking(labels, scores, new):
            partial.add(new)
            notes.append(
                f"{new} is unknown where none of it plays: {where} has no labels of "
                f"{', '.join(missing)}"
            )
        if missing := _lacking(scores, labels, new):
            notes.append(f"{new}: the model does not know {', '.join(missing)}")
    labelled = replace(labelled.only(codes), partial=frozenset(partial))
    return scored.only(codes), labelled, notes


def _of_one_name(
    ours: Vocabulary, theirs: Vocabulary, mapping: Mapping[str, str]
) -> dict[str, str]:
    """Return the codes of `theirs` by ours that neither maps and whose names are alike."""
    taken = {*mapping, *mapping.values()}
    names = {
        name.casefold(): code
        for code, name in zip(theirs.codes, theirs.names, strict=True)
        if code not in ours and code not in taken
    }
    return {
        code: names[name.casefold()]
        for code, name in zip(ours.codes, ours.names, strict=True)
        if code not in theirs and code not in taken and name.casefold() in names
    }


def _lacking(own: Sequence[str], others: Sequence[str], whole: str) -> list[str]:
    """Return the parts of a whole that others have and one side lacks.

    It lacks none if it has the whole by its name, or nothing in common with the others: then
    these are two names of one thing.
    """
    if whole in own or set(own).isdisjoint(others):
        return []
    return _without(others, own)


def _without(codes: Sequence[str], taken: Collection[str]) -> list[str]:
    return [code for code in codes if code not in taken]
