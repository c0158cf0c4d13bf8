"""The forms of NumPy, Arrow and pandas; only what the program itself has imported is looked at."""

from __future__ import annotations

import io
import sys
from typing import Any

from raflow.checkpoints.form import Form, Make, Raw


def columnar(value: Any) -> Form | None:
    """Return the form of an array, table or frame; None for others, and where the form would lose something."""
    package = type(value).__module__.partition(".")[0]
    rules = {"numpy": _numpy, "pyarrow": _arrow, "pandas": _pandas}
    return rules[package](value) if package in rules and package in sys.modules else None


def _numpy(value: Any) -> Form | None:
    import numpy as np

    dtype: Any = getattr(value, "dtype", None)
    if type(dtype) not in _plain_dtypes() or dtype.hasobject or dtype.metadata:
        return None
    if type(value) is np.ndarray:
        return Form("ndarray", lambda array: [Raw(_npy(array))])
    if type(value) is np.str_:
        return Form("npstr", lambda text: ["".join(text)])  # its pickle loses zeros at the end
    if isinstance(value, np.generic) and type(value) is not np.bytes_:
        return Form("scalar", lambda scalar: [Raw(_npy(np.asarray(scalar)))])
    return None


def _plain_dtypes() -> set[type]:
    """The types of NumPy's own dtypes that its file format knows."""
    import numpy as np

    return {type(np.dtype(code)) for code in "?bhilqBHILQefdgFDGmMSUV"}


def _npy(array: Any) -> memoryview:
    import numpy as np

    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getbuffer()


def _array(parts: list[Any]) -> Any:
    import numpy as np

    return np.load(io.BytesIO(parts[0]), allow_pickle=False)


def _arrow(value: Any) -> Form | None:
    import pyarrow as pa

    if type(value) is pa.Table:
        return Form("table", lambda table: [Raw(_ipc(table))]) if value.num_columns else None
    if type(value) is pa.RecordBatch:
        return Form("recordbatch", lambda batch: [Raw(_ipc(batch))])
    if isinstance(value, pa.Array):
        return Form("array", lambda array: [Raw(_ipc(pa.record_batch([array], names=[""])))])
    if type(value) is pa.ChunkedArray:
        return Form("chunkedarray", lambda array: [Raw(_ipc(pa.table([array], names=[""])))])
    return None


def _ipc(data: Any) -> Any:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write(data)
    return memoryview(sink.getvalue())


def _stream(parts: list[Any]) -> Any:
    import pyarrow as pa

    return pa.ipc.open_stream(pa.py_buffer(parts[0]))


def _pandas(value: Any) -> Form | None:
    """Return a form by way of Arrow if that brings back the very same; the rest is pickled."""
    import pandas as pd
    import pyarrow as pa

    if type(value) is pd.DataFrame:
        tag, frame, rest = "frame", value, []
    elif type(value) is pd.Series:
        tag, frame, rest = "series", value.to_frame("values"), [value.name]
    elif isinstance(value, pd.Index):
        tag, frame, rest = "index", pd.DataFrame(index=value), []
    else:
        return None
    if value.__dict__.get("_attrs") or "O" in {dtype.kind for dtype in frame.dtypes}:
        return None
    try:
        table = pa.Table.from_pandas(frame)
        back = COLUMNAR[tag]([table, *rest])
        same = type(back) is type(value) and _same_frame(frame, table.to_pandas())
    except Exception:  # whatever Arrow or pandas cannot do with a frame
        return None
    return Form(tag, lambda _: [Raw(_ipc(table)), *rest]) if same else None


def _same_frame(one: Any, other: Any) -> bool:
    return bool(
        one.equals(other)
        and list(one.dtypes) == list(other.dtypes)
        and _same_index(one.index, other.index)
        and _same_index(one.columns, other.columns)
    )


def _same_index(one: Any, other: Any) -> bool:
    kept = type(one) is type(other) and one.identical(other) and one.names == other.names
    exact = one.dtype.kind != "O" or all(type(a) is type(b) for a, b in zip(one, other, strict=True))
    return kept and exact and getattr(one, "freq", None) == getattr(other, "freq", None)


def _frame(parts: list[Any]) -> Any:
    import pyarrow as pa

    table = parts[0] if isinstance(parts[0], pa.Table) else _stream(parts).read_all()
    return table.to_pandas()


def _series(parts: list[Any]) -> Any:
    return _frame(parts)["values"].rename(parts[1])


def _index(parts: list[Any]) -> Any:
    return _frame(parts).index


def _numpy_text(parts: list[Any]) -> Any:
    import numpy as np

    return np.str_(parts[0])


COLUMNAR: dict[str, Make] = {
    "npstr": _numpy_text,
    "ndarray": _array,
    "scalar": lambda parts: _array(parts)[()],
    "table": lambda parts: _stream(parts).read_all(),
    "recordbatch": lambda parts: _stream(parts).read_next_batch(),
    "array": lambda parts: _stream(parts).read_next_batch().column(0),
    "chunkedarray": lambda parts: _stream(parts).read_all().column(0),
    "frame": _frame,
    "series": _series,
    "index": _index,
}
"""What makes these values of their parts."""
