"""Ctrl-C in a long call."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_ends_a_long_call(tmp_path):
    script = """
        import os, sys, saymask
        print("begun", flush=True)
        try:
            saymask.datasets.generate(sys.argv[1], images=200_000, size=512)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            os._exit(0)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "data")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "begun\n"
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(1)
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert out == "interrupted\n" and time.monotonic() - begun < 10
