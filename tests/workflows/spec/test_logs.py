# mypy: disable-error-code="misc"
from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path


def test_messages_name_their_node_and_go_to_stderr(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        from raflow.workflows.spec import Configuration, FlowSpec, foreach, log, needs, step

        class Talk(FlowSpec):
            @foreach
            @step
            async def items():
                log("two")
                return [0, 1]

            @needs(predecessors=[items])
            @step
            def each(item):
                log(f"item {item}")

        log("before")
        Talk("talk", None, Configuration(engine="local")).run()
        log("after", step_name="mine")
        print("result")
        """)
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "result\n"
    assert sorted(done.stderr.splitlines()) == sorted(
        ["[main] before", "[items_0] two", "[each_0] item 0", "[each_1] item 1", "[mine] after"]
    )
