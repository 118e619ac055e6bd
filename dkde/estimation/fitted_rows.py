"""The rows of estimators with scikit-learn's interface: those to fit, and those to score."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from dkde.engine.shelf import Lasting
from dkde.errors import InputError
from dkde.estimation.options import Options
from dkde.estimation.showing import ShownInNotebooks
from dkde.inputs.arrays import numbers_of
from dkde.inputs.dask_frames import is_dask_frame
from dkde.inputs.filtering import meeting
from dkde.inputs.frame import Frame
from dkde.inputs.frames import column_named, numbers_alone, opened
from dkde.inputs.named_features import as_numbers
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, framed, operand, refuse_unmet, side
from dkde.rows.as_numbers import first_masked, marked_lists, unmasked
from dkde.rows.columns import Columns
from dkde.rows.side import Side
from dkde.rows.side_choices import check_roles
from dkde.rows.tensors import dense
from dkde.stores.door import check_opened
from dkde.typing import KernelLike, Names, SupportLike, Text

# Containers whose rows are read block by block, or of which only some columns are. They bypass
# scikit-learn's checks, which would load all of them as a NumPy array.
_LAZY = (da.Array, xr.DataArray, xr.Dataset, xr.DataTree, zarr.Array, str, os.PathLike, Frame)
_SCALE = "bandwidth_scale"


class FittedRows(ShownInNotebooks, BaseEstimator):  # type: ignore[misc]
    """The parameters of a density, and the rows that it is fitted to and scores."""

    kernel: KernelLike
    metric: str
    covariance: Any
    singular: str
    precision: str
    tol: float | None
    atol: float = 0.0
    nan: str
    support: SupportLike = None
    outside: str = "raise"
    adaptive: float | None = None
    features: Names | None
    where: Text | None
    row_dim: Names | None
    lat: Text | None
    lon: Text | None

    n_features_in_: int
    # What is made of training rows in memory, for all calls until the next fit; never pickled.
    _kept: Lasting
    # The fewest rows to fit.
    _least_rows = 1
    # Variables beside the features: weights and scales that `fit` was given by name.
    _beside: tuple[str, ...] = ()

    def _options(self) -> Options:
        """Return the parameters as they are now; refuse those that cannot be combined."""
        options = Options(
            self.kernel, self.metric, self.precision, self.covariance, self.singular,
            tol=self.tol, nan=self.nan, atol=self.atol, support=self.support,
            outside=self.outside, adaptive=self.adaptive,
        )  # fmt: skip
        options.check()
        return options

    def _training_side(
        self, X: Any, sample_weight: Any, bandwidth_scale: Any = None, min_rows: int = 1
    ) -> tuple[Operand, Side]:
        """Return the rows to fit, and the side made of them, their weights and scales."""
        # A fit that fails leaves the estimator unfitted, and not with the matrix of the last fit
        # and the features of this one.
        self.__dict__.pop("_matrix", None)
        self._kept = Lasting()  # and nothing is kept of the rows of the last fit
        beside = {"sample_weight": sample_weight, _SCALE: bandwidth_scale}
        self._beside = tuple(each for each in beside.values() if isinstance(each, str))
        catalog = self._catalog("train")
        given = X = X if is_lazy(X) else opened(X, "X")
        if not is_lazy(X):
            # The column is looked up before scikit-learn makes X a bare array.
            for name, what in (("sample_weight", "train weights"), (_SCALE, "bandwidth scales")):
                if isinstance(beside[name], str):
                    beside[name] = column_named(X, "X", beside[name], what)
            # So are the columns of a condition, which need not be features.
            if catalog.choice.where is not None:
                X, beside = meeting(X, catalog.choice.where, "X", beside)
                catalog = catalog.everywhere
            X = as_numbers(self._unmasked(X), catalog, "X")
            X = numbers_alone(framed(X, catalog, "X"), "X")
            X = self._validated(X, ensure_min_samples=min_rows)
            weights = beside["sample_weight"]
            if weights is not None and not isinstance(weights, _LAZY):
                beside["sample_weight"] = _weights(weights, X)
            # `validate_data` has set this, if X is a data frame with names for all columns.
            names = getattr(self, "feature_names_in_", None)
            known = Columns(None if names is None else (*names,), width=X.shape[1])
            train = operand(X, "X", catalog, known)
            if names is not None:
                places = frozenset(catalog.choice.places)
                train = replace(train, met=places.intersection(names))
        else:
            train = operand(X, "X", catalog)
            if isinstance(X, Frame):
                self._check_values(train, min_rows)
            self.n_features_in_ = train.rows.n_features
            if train.features is not None:
                self.feature_names_in_ = np.asarray(train.features, object)
            # scikit-learn does this only for what it validates: names of an earlier fit must go.
            elif hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        refuse_unmet(catalog, {"X": train}, {"X": given})
        self._columns = train.columns
        return train, self._options().prepared(
            side(train, beside["sample_weight"], scales=beside[_SCALE])
        )

    def _added_side(self, X: Any, sample_weight: Any, bandwidth_scale: Any) -> Side:
        """Return rows to fit beside those that the estimator was fitted to, as a side.

        Raises
        ------
        InputError
            When they have other features, or there is a condition on rows.
        """
        if self.where is not None:
            raise InputError("partial_fit takes no condition (where); give the rows that meet it")
        beside = {"sample_weight": sample_weight, _SCALE: bandwidth_scale}
        names = [each for each in beside.values() if isinstance(each, str)]
        self._beside = tuple(dict.fromkeys([*self._beside, *names]))
        X = X if is_lazy(X) else opened(X, "X")
        if not is_lazy(X):
            for name, what in (("sample_weight", "train weights"), (_SCALE, "bandwidth scales")):
                if isinstance(beside[name], str):
                    beside[name] = column_named(X, "X", beside[name], what)
            weights = beside["sample_weight"]
            if weights is not None and not isinstance(weights, _LAZY):
                beside["sample_weight"] = _weights(weights, X)
        added = self._query(X, "train")
        return self._options().prepared(side(added, beside["sample_weight"], scales=beside[_SCALE]))

    @contextmanager
    def _unchanged_by_failures(self) -> Iterator[None]:
        """Give the estimator its former state again where the block fails or is interrupted."""
        former = dict(vars(self))
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(former)
            raise

    def _check_values(self, train: Operand, min_rows: int) -> None:
        """Let scikit-learn check the values of a table, as it checks those of an array."""
        values = train.rows.parts[0].source.read(0, train.rows.n_rows)
        self._validated(values, ensure_min_samples=min_rows)

    def _catalog(self, role: str) -> Catalog:
        """Return a catalog with the estimator's choice of rows and features for fit or scoring."""
        # Scores are one for each row, as scikit-learn has it: conditions are for rows to fit.
        check_roles({"where": self.where}, ("train",))
        catalog = catalog_of(
            None, ("train", "query"), features=self.features, where=self.where,
            row_dim=self.row_dim, lat=self.lat, lon=self.lon, beside=self._beside,
        ).for_role(role)  # fmt: skip
        return catalog if role == "train" else catalog.everywhere

    def _unmasked(self, X: Any) -> Any:
        """Return X with NaN in place of masked values; scikit-learn would ignore the mask."""
        check_opened(X)
        X = marked_lists(dense(X, "X"))
        place = first_masked(X)
        if place is None:
            return X
        if self.nan != "drop":
            named = zip(("row", "column"), place, strict=False)
            raise InputError(
                f"X: {', '.join(f'{name} {i}' for name, i in named)} is masked; "
                'densities need all values: leave such rows out (nan="drop") or fill them'
            )
        return unmasked(X)

    def _validated(self, X: Any, **options: Any) -> Any:
        """Return X as an array that scikit-learn has checked.

        Raises
        ------
        ValueError
            As scikit-learn raises it.
        InputError
            When values are missing; scikit-learn would not say how to leave their rows out.
        """
        try:
            return validate_data(
                self, X, dtype="numeric", ensure_all_finite=self._finite, **options
            )
        except ValueError as error:
            if "contains NaN" not in str(error):
                raise
        raise InputError(
            f"X: {_first_missing(X)} is NaN; densities need finite values: leave such rows out "
            '(nan="drop") or fill them'
        )

    @property
    def _finite(self) -> bool | str:
        """Return the option ``ensure_all_finite`` of scikit-learn's checks."""
        return "allow-nan" if self.nan == "drop" else True

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.nan == "drop"
        return tags

    def _query(self, X: Any, role: str = "query") -> Operand:
        """Return rows to score, or to fit too, with the features of those that were fitted."""
        check_is_fitted(self)
        catalog = self._catalog(role)
        X = X if is_lazy(X) else opened(X, "X")
        if not is_lazy(X):
            # Columns are taken by name, in the order of the fit: `validate_data` would refuse any
            # other order.
            X = as_numbers(self._unmasked(X), catalog, "X", self._columns)
            X = framed(X, catalog, "X", self._columns)
            X = numbers_alone(X, "X", self._columns.names)
            X = self._validated(X, reset=False)
        query, names = operand(X, "X", catalog, self._columns), self._columns.names
        if names is not None and query.features is not None and names != query.features:
            raise InputError(
                f"X has the features {', '.join(query.features[:8])}, and "
                f"{type(self).__name__} was fitted with {', '.join(names[:8])}, in that order"
            )
        if query.rows.n_features != self.n_features_in_:
            raise InputError(
                f"X has {query.rows.n_features} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return query

    def __getstate__(self) -> Any:
        state = dict(super().__getstate__())
        state.pop("_kept", None)
        return state

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self._kept = Lasting()


def _first_missing(X: Any) -> str:
    """Return the row and the column of the first missing value, for a message."""
    values = X.isna() if hasattr(X, "isna") else np.isnan(np.asarray(X, np.float64))
    row, column = np.argwhere(np.asarray(values))[0]
    names = getattr(X, "columns", None)
    return f"row {row}, column {column}" if names is None else f"row {row}, {names[column]}"


def is_lazy(X: Any) -> bool:
    """Return whether rows are read block by block."""
    return isinstance(X, _LAZY) or is_dask_frame(X)


def _weights(sample_weight: Any, X: Any) -> Any:
    """Return the weights of the rows X, checked by scikit-learn unless some are missing.

    Missing ones are NaN. The side refuses them, or leaves their rows out.
    """
    given = numbers_of(sample_weight, "sample_weight")
    numbers = unmasked(given)
    if numbers.dtype.kind == "f" and np.isnan(numbers).any():
        return given
    return _check_sample_weight(numbers, X, dtype=np.float64)
