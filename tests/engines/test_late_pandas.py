"""In processes of their own: what is imported stays."""

from __future__ import annotations

import subprocess
import sys

BEGIN = """
import sys
import pyarrow as pa
from raflow.engines.ray.late_pandas import without_pandas
without_pandas()
without_pandas()
assert pa.array([1, None]).null_count == 1
assert pa.table({"a": [1.5]}).num_rows == 1
assert "pandas" not in sys.modules
"""


def tried(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_arrow_makes_arrays_of_lists_without_pandas() -> None:
    tried("")


def test_what_user_code_imports_later_arrow_knows_as_ever() -> None:
    tried("""
import pandas as pd
assert pa.array(pd.Series([1.0, float("nan")])).null_count == 1
assert pa.array(pd.Series([pd.Timestamp("2024-01-01"), pd.NaT])).null_count == 1
assert pa.Table.from_pandas(pd.DataFrame({"a": [1, 2]})).num_rows == 2
""")


def test_a_table_becomes_a_frame_though_nothing_has_imported_pandas() -> None:
    tried("""
frame = pa.table({"a": [1, 2]}).to_pandas()
import pandas as pd
assert isinstance(frame, pd.DataFrame)
assert pa.array(frame["a"] / 0).null_count == 0
assert pa.array(pd.Series([float("nan")])).null_count == 1
""")


def test_where_pandas_is_there_already_nothing_changes() -> None:
    program = """
import sys
import pandas as pd, pyarrow as pa
from raflow.engines.ray.late_pandas import without_pandas
before = list(sys.meta_path)
without_pandas()
assert sys.meta_path == before
assert pa.array(pd.Series([float("nan")])).null_count == 1
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
