"""The check of a finished result: checksums, figures derived again, and blocks recomputed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from dkde.engine.work import Work
from dkde.errors import Argument, DataSetError, InputError
from dkde.estimation.as_stored import as_stored
from dkde.estimation.checks_of_added import check_noted_bounds
from dkde.estimation.figures_alone import figures_alone
from dkde.estimation.judging import Judge
from dkde.estimation.recomputing import Piece
from dkde.estimation.replaying import derived, in_unit_of, nothing_covered, quietly
from dkde.estimation.resuming import Again, works_of
from dkde.estimation.stored_densities import loaded
from dkde.estimation.verified_blocks import VerifiedBlocks, fingerprint
from dkde.runs.grouped import of_each_group
from dkde.runs.origin import provenance_of
from dkde.runs.record import circumstances, elsewhere
from dkde.runs.status import read_all
from dkde.runs.store import ResultStore
from dkde.typing import StrPath

ALL = "all"


def verify(
    path: StrPath,
    *,
    blocks: int | Literal["all"] = 4,
    seed: int | None = None,
    anywhere: bool = False,
    sources: Mapping[str, str] | None = None,
    trust_sources: bool = False,
) -> dict[str, Any]:
    """Check a complete result: every checksum, every figure, and blocks of its log-densities.

    All figures, such as means, their errors, the best bandwidth, scores of classes and levels, are
    derived again from the log-densities of the result. Blocks of query rows are computed again from
    the data, of all pieces of work: also those that follow from the outcome of others, such as the
    test rows of a sweep. Which blocks were verified is kept in the user's cache, so that repeated
    calls verify others, until all are; the result is not written to.

    Parameters
    ----------
    path : path or URL
        The result.
    blocks : int or "all"
        The number of query blocks that are computed again, drawn at random from those that were not
        verified before; ``"all"`` of these. Where all were, they are drawn from all.
    seed : int, optional
        The seed of that draw; by default the system chooses one.
    anywhere : bool
        Accept blocks that agree within the bounds on their errors, and figures that agree within
        rounding, and not to the last bit, even where the processor and the libraries are those of
        the beginning of the run: some of its blocks may have been computed with others.
    sources : mapping of str to path, optional
        Where data lie that were moved apart from the result: present paths by those that the call
        named, ``{"/old/rows.nc": "/new/rows.nc"}``. A folder stands for all that is in it. The data
        must be the same: their checksums, or sizes and times, decide.
    trust_sources : bool
        Open all data that the result names, wherever they are. Without it those that lie beside the
        result or are given as ``sources`` are opened; the others only for a result whose record is
        this user's own file, which nobody else can write.

    Returns
    -------
    dict
        ``chunks``, the number that were read; ``figures``, the number of variables that were
        derived again; ``blocks``, the number of blocks that were recomputed and are the same, each
        counted once.
        They are the same to the last bit; or within the bounds on their errors, with ``anywhere``,
        or if the processor, a library or an index has changed. ``elsewhere`` says what has changed,
        else it is None; ``exact``, whether all were the same to the last bit. ``verified`` and
        ``of``, how many blocks are verified so far, of how many that are known; ``seed``, that of
        the draw; ``unverified``, the variables that follow from log-densities which the result
        does not keep, until all of their blocks are verified (never elsewhere, or with
        ``anywhere``), and those that cannot be derived;
        ``reason``, why no block was recomputed, where the store does not allow it; figures are
        then those that follow from the variables of the result alone.

    Raises
    ------
    InputError
        When ``blocks`` is no number, or ``sources`` names what the result does not name, or what
        is not there; or the result names data that are not trusted.
    DataSetError
        When something is damaged or not the same; the message names it.
    """
    n_blocks = _number(blocks)
    seed = _seed(seed)
    store, state = ResultStore.finished(path)
    plan = state.plan
    if plan is None:
        raise DataSetError(f"{path}: does not say how it was made, so that nothing can be verified")
    # The checksums come first: they need nothing but the store.
    content = read_all(store)
    found = _Verified(content.n_chunks, seed)
    result = loaded(store.open())
    reason = _reason(plan)
    again = None if reason is not None else works_of(state, sources, trusting=trust_sources)
    if again is not None:
        reason = _other_work(plan, again)
    if again is None or reason is not None:
        found.reason = reason
        _verify_alone(result, path, plan, found, anywhere=anywhere)
        return found.as_dict
    now = circumstances(again.works)
    others = elsewhere(plan, now)
    if (extended := provenance_of(result).get("extended")) is not None:
        task = next(iter(again.works.values())).task
        check_noted_bounds(str(path), result, task, extended)
        others.append("rows were added to this result later")
    found.elsewhere = "; ".join(others) or None
    judge = Judge(path, others, anywhere)
    known = VerifiedBlocks(
        fingerprint(content.checksum, {"machine": now, "anywhere": bool(anywhere)})
    )
    _verify(result, again, judge, known, n_blocks, found)
    return found.as_dict


@dataclass
class _Verified:
    """The outcome of :func:`verify`, as it grows."""

    chunks: int
    seed: int
    figures: int = 0
    blocks: int = 0
    verified: int = 0
    of: int = 0
    elsewhere: str | None = None
    exact: bool = True
    unverified: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def _verify_alone(
    result: xr.Dataset,
    path: StrPath,
    plan: Mapping[str, Any],
    found: _Verified,
    *,
    anywhere: bool,
) -> None:
    """Derive what figures follow from the result alone."""
    # Its data, and with them their indexes, are not known.
    index = {"index of train": plan["machine"].get("index of train")}
    judge = Judge(path, elsewhere(plan, circumstances({}) | index), anywhere)
    names: set[str] = set()
    with quietly(str(path)):
        for figures, stored in figures_alone(result):
            found.exact &= judge.figures(figures, stored)
            names |= set(map(str, figures.data_vars))
    found.figures = len(names)
    found.unverified = tuple(sorted({str(name) for name in result.data_vars} - names))


def _verify(
    result: xr.Dataset,
    again: Again,
    judge: Judge,
    known: VerifiedBlocks,
    n_blocks: int | None,
    found: _Verified,
) -> None:
    """Derive all figures, and compute blocks, until so many are done; None for all."""
    random = np.random.default_rng(found.seed)
    result = in_unit_of(again.job, result, str(judge.path))
    computed: list[tuple[str, int]] = []
    while True:
        # Elsewhere the last bits of log-densities that are not kept, and so the figures that
        # follow from them, may be others: nothing can be said of these.
        covered = nothing_covered if judge.lenient else known.densities
        made = derived(again.job, result, str(judge.path), covered)
        found.exact &= judge.figures(as_stored(made.figures), result, made.unverified)
        pieces = [p for p in made.pieces if not (judge.lenient and p.name in made.open)]
        every = [(piece, q) for piece in pieces for q in range(piece.n_blocks)]
        left = [(piece, q) for piece, q in every if (piece.name, q) not in known]
        if not left and not computed:
            # What the result does not keep has nothing to be compared with a second time.
            left = [(piece, q) for piece, q in every if piece.name not in made.open]
        if n_blocks is None:
            # First those from which other pieces of work follow.
            left = [(piece, q) for piece, q in left if piece.name in made.open] or left
        n = len(left) if n_blocks is None else min(n_blocks - len(computed), len(left))
        if n:
            drawn = [left[k] for k in sorted(random.permutation(len(left))[:n])]
            _check(drawn, judge, known, found, computed)
        # Later pieces of work, and figures, may follow from what is there now.
        if not n or all(piece.name not in made.open for piece, _ in drawn):
            break
    names = {str(name) for name in result.data_vars}
    unknown = names.difference(map(str, made.figures.variables))
    found.unverified = tuple(dict.fromkeys([*made.unverified, *sorted(unknown)]))
    found.figures = len(names.difference(found.unverified))
    own = {(piece.name, q) for piece, q in every}
    # A block may have been compared within bounds first, and again when its pilot was known.
    found.blocks = len(own.intersection(computed))
    found.of = len(own)
    found.verified = sum(block in known for block in own)


def _check(
    drawn: Sequence[tuple[Piece, int]],
    judge: Judge,
    known: VerifiedBlocks,
    found: _Verified,
    computed: list[tuple[str, int]],
) -> None:
    """Compute blocks again, those of each piece of work together, and note which."""
    of_piece: dict[str, tuple[Piece, list[int]]] = {}
    for piece, q in drawn:
        of_piece.setdefault(piece.name, (piece, []))[1].append(q)
    for name, (piece, numbers) in of_piece.items():

        def done(q: int, exact: bool, values: Any, name: str = name) -> None:
            known.add(name, q, values)
            found.exact &= exact
            computed.append((name, q))

        try:
            piece.check(numbers, judge, done)
        finally:
            known.save()


def _number(blocks: Any) -> int | None:
    """Return a number of blocks; None for all."""
    if blocks == ALL:
        return None
    if isinstance(blocks, bool) or not isinstance(blocks, int | np.integer) or blocks < 0:
        raise InputError(Argument("blocks"), f" is {blocks!r}; give a number, or 'all'")
    return int(blocks)


def _seed(seed: Any) -> int:
    """Return a seed that can be said: the given one, or one of the system's."""
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(Argument("seed"), f" is {seed!r}; give a whole number, not negative")
    return int(seed)


def _reason(plan: Mapping[str, Any]) -> str | None:
    """Return why the call of a plan cannot be made again; None where it can."""
    if plan["call"] is None:
        return "the run was begun with arrays in memory, which the store does not hold"
    if _shuffles_at_random(plan["call"]):
        return "its folds were shuffled without a random_state; the same call makes other folds"
    return None


def _other_work(plan: Mapping[str, Any], again: Again) -> str | None:
    """Return why the same call now does other work; None where it does not."""
    if again.otherwise is not None:
        return f"it was {again.otherwise}"
    name, work = next(iter(of_each_group(again.works).items()))
    if _counts_features_otherwise(plan, name, work):
        return (
            "it was made by an older version of dkde, which used the variable of its weights as a "
            "feature, too; the same call has other features now"
        )
    return None


def _shuffles_at_random(call: Mapping[str, Any]) -> bool:
    """Return whether a call made folds at random without a seed."""
    arguments = call["arguments"]
    is_shared_out = call["function"] == "cross_validate" and isinstance(arguments["folds"], int)
    unseeded = arguments.get("random_state") is None
    return is_shared_out and bool(arguments.get("shuffle")) and unseeded


def _counts_features_otherwise(plan: Mapping[str, Any], name: str, work: Work) -> bool:
    """Return whether a call that names weights had other features in an older version."""
    if not isinstance(plan["call"]["arguments"].get("weights"), str):
        return False
    then = plan["asked"].get(name, {}).get("train", {}).get("features")
    return isinstance(then, int) and then != work.train.rows.n_features
