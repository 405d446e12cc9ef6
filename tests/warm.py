"""Stages that start from a process that has imported torch, timm and MLflow already: half of the time of the pipelines of tests.

`path()` is a folder with a program `python`, to be put before the others on the PATH of dvc. It asks the process to fork, and the
fork runs `-m stages ...` with its words, environment, folder and files: a process of its own, with the code of that folder. The
process ends with the tests. The pipelines of .ci/run, and those that tests kill or clone, start as they do for a user.
"""

import atexit
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path

IMPORTED = ("mlflow", "timm", "torch", "torch._dynamo", "torch.distributed", "torchvision", "lightning_fabric", "pandas",
            "pydantic", "PIL.Image", "ruamel.yaml", "safetensors.torch", "scipy.stats", "sklearn.linear_model",
            "matplotlib.pyplot")  # fmt: skip
PYTHON = """#!{python} -SE
import json, os, socket, sys
if sys.argv[1:3] != ["-m", "stages"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    socket.send_fds(connection, [b"."], [0, 1, 2])
    connection.sendall(json.dumps([sys.argv[3:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    sys.exit(int(connection.recv(8) or b"1"))
"""


@cache
def path() -> str:
    """Start the process, once for each process of the tests; the folder of the program that uses it."""
    folder = Path(tempfile.mkdtemp(prefix="warm"))
    address, program = str(folder / "socket"), folder / "python"
    program.write_text(PYTHON.format(python=sys.executable, address=address))
    program.chmod(0o700)
    process = subprocess.Popen([sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(process.communicate)  # closes its standard input, at which it ends
    assert process.stdout is not None and process.stdout.read(1) == b"."
    return str(folder)


def serve(address: str) -> None:
    """Fork for each that asks, until standard input is closed. Returns in the new processes."""
    for name in IMPORTED:
        import_module(name)
    with socket.socket(socket.AF_UNIX) as listening, selectors.DefaultSelector() as both:
        listening.bind(address)
        listening.listen()
        os.write(1, b".")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
        both.register(listening, selectors.EVENT_READ)
        both.register(0, selectors.EVENT_READ)
        while all(key.fileobj is listening for key, _ in both.select()):
            connection, _ = listening.accept()
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return _run(connection)
            connection.close()
    sys.exit()


def _run(connection: socket.socket) -> None:
    """Become the process that was asked for; one between it and the server tells how it ended."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    words, folder, environment = json.loads(connection.makefile("rb").readline())
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(str(status if status >= 0 else 128 - status).encode())
        os._exit(0)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    atexit._clear()  # what the imports want at the end, which would keep the process from ending at once
    sys.argv[1:], sys.path[0] = words, folder


if __name__ == "__main__":
    serve(sys.argv[1])
    runpy.run_module("stages", run_name="__main__", alter_sys=True)
