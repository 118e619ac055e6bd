"""What keeps the blocks of a session: the records of its run, its ledger and its commits."""

from __future__ import annotations

from dataclasses import dataclass

from dkde.runs.commits import Commits
from dkde.runs.sessions import Ledger
from dkde.runs.shares import Share
from dkde.runs.store import ResultStore
from dkde.stores.store import Records


@dataclass(frozen=True)
class Kept:
    """The keeping of a session's blocks: the run's records, its ledger and its commits."""

    run: str
    replaces: bool
    records: Records
    ledger: Ledger
    commits: Commits

    @classmethod
    def of(cls, store: ResultStore, run: str, replaces: bool, share: Share | None) -> Kept:
        """Begin a session of a run.

        Raises
        ------
        DataSetError
            When another session is at work on it.
        """
        records = store.run.records(run)
        ledger = Ledger(records)
        with store.run.naming_what_came(run):
            ledger.begin(None if share is None else share.name)
        assert ledger.mine is not None
        commits = Commits(records, ledger.mine.id, lambda: store.run.check_present(run))
        return cls(run, replaces, records, ledger, commits)
