"""A table as a DataFrame."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

# Integers and booleans keep their type beside nulls; a float's null is NaN, as usual in pandas
_NULLABLE = {
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


def frame_of(table: pa.Table) -> pd.DataFrame:
    """The rows, with pandas' types that have nulls."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=_NULLABLE.get)
    return frame
