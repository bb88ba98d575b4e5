"""Scores that were computed elsewhere: read from a CSV, or an array with one number for each row of the source."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.errors import explain


def scores_from_csv(path: str | Path, *, ref: str = "ref", score: str = "score") -> NDArray[np.float64]:
    r"""Read scores for `ScheduledMining(score=...)` from a CSV with a heading, for instance one of `to_csv`.

    Args:
        path: The file, in UTF-8.
        ref: The column of the refs, whole numbers from 0 on.
        score: The column of the scores, numbers from 0 (hard) to 1 (easy).

    Returns:
        Float64 `(largest ref + 1,)`: the score of each row of the source, NaN for rows that the file does not hold.

    Raises:
        ValueError: If a column is missing, a value is no number in its range, or a ref stands twice.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "s.csv").write_text("ref,score\n2,0.5\n0,1\n")
        ...     scores_from_csv(Path(folder, "s.csv"))
        array([1. , nan, 0.5])
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        if ref not in columns or score not in columns:
            raise ValueError(
                explain(
                    f"a CSV with the columns {columns}",
                    f"the columns {ref!r} and {score!r}",
                    "name them with the arguments ref and score",
                )
            )
        found = [(row[ref], row[score]) for row in reader]
    refs, scores = _numbers([one for one, _ in found], int), _numbers([other for _, other in found], float)
    if (
        not len(refs)
        or refs.min() < 0
        or len(np.unique(refs)) < len(refs)
        or not ((scores >= 0) & (scores <= 1)).all()
    ):
        raise ValueError(
            explain(
                f"a CSV of {len(refs)} rows with {len(np.unique(refs))} refs and scores that are not all from 0 to 1",
                "at least one row, each ref once and from 0 on, each score from 0 (hard) to 1 (easy)",
                "keep one row for each sample, and scale the scores",
            )
        )
    table = np.full(int(refs.max()) + 1, np.nan)
    table[refs.astype(np.int64)] = scores
    return table


def scores_of(table: NDArray[np.float64], refs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the scores of some rows; a ValueError says how many of them have none."""
    known = refs < len(table)
    known[known] = np.isfinite(table[refs[known]])
    if not known.all():
        raise ValueError(
            explain(
                f"scores for {len(table)} rows, of which {int((~known).sum())} of {len(refs)} candidates have none",
                "a score for each candidate",
                "add the missing scores, or leave these samples out of the candidates",
            )
        )
    scores: NDArray[np.float64] = table[refs]
    return scores


def as_table(scores: ArrayLike) -> NDArray[np.float64]:
    """Return scores from outside as float64 `(rows,)`; a ValueError says so if they are none."""
    table = np.asarray(scores, np.float64)
    if (
        table.ndim != 1
        or not len(table)
        or not ((np.nan_to_num(table) >= 0) & (np.nan_to_num(table) <= 1)).all()
    ):
        raise ValueError(
            explain(
                f"scores of shape {table.shape}, not all from 0 to 1",
                "one number for each row of the source, from 0 (hard) to 1 (easy)",
                "scale them, for instance with 1 / (1 + loss)",
            )
        )
    return table


def _numbers(texts: list[str | None], kind: type) -> NDArray[np.float64]:
    try:
        return np.array([kind(text or "") for text in texts], np.float64)
    except ValueError as error:
        raise ValueError(
            explain(f"a CSV with a value that is no number ({error})", "numbers", "correct that value")
        ) from None
