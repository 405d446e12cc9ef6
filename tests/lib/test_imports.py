"""Large libraries are imported without garbage collection, and a process ends without taking them apart."""

import gc
import subprocess
import sys

import pytest

from stages.lib.imports import unscanned
from tests.tiny import ROOT


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_is_collected_within_the_block_and_everything_is_as_before_after_it(enabled):
    before, frozen = gc.isenabled(), gc.get_freeze_count()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ImportError), unscanned():
            assert not gc.isenabled()
            kept = [[] for _ in range(1000)]
            raise ImportError
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() >= frozen + len(kept), "what was made is not looked at any more"
        assert not any(each is kept for each in gc.get_objects())
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()


ENDS = """
import atexit, os, runpy, sys, threading, time
class Kept:
    def __del__(self, write=os.write):
        write(1, b"taken apart ")
sys.kept = Kept()
def run_command(words, main):
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread", end=" "))).start()
    atexit.register(print, "handler", end=" ")
    print("ran", end=" ")
    {end}
from stages.lib.shell import command
command.run_command = run_command
if {fast}:
    sys.argv = ["stages", "verdict"]
    atexit._clear()  # what was imported above would otherwise wait for the end
    runpy.run_module("stages", run_name="__main__")
else:
    run_command([], None)
"""


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("pass", 0, ""),
        ("sys.exit('error: why')", 1, "error: why\n"),
        ("sys.exit(3)", 3, ""),
        ("sys.exit(0)", 0, ""),
        ("1 / 0", 1, ""),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_the_program_ends_as_python_does_without_taking_anything_apart(fast, end, code, said):
    program = ENDS.format(end=end, fast=fast)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.endswith("division by zero\n" if "/" in end else said)
    assert done.stdout == "ran thread handler " + ("" if fast else "taken apart ")
