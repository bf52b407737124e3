"""`hf-gar` in forks of one process that has its libraries loaded, which takes most of the time of a short command.

The documentation has many commands, and bash runs them: a file named `hf-gar` that `write_command` puts on the PATH
asks the process for a fork with its own arguments, variables, folder and files.
"""

import atexit
import contextlib
import importlib
import json
import os
import socket
import socketserver
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = ("hf_gar.evaluation.run", "hf_gar.search.maps.embedding_map", "hf_gar.training.run", "sklearn.manifold")
COMMAND = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect({address!r})
    socket.send_fds(client, [b"."], [0, 1, 2])
    client.sendall(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode())
    client.shutdown(socket.SHUT_WR)
    code = client.recv(8)
sys.exit(int(code) if code else "hf-gar ended without an exit code")
"""


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Run a command; ForkingMixIn calls this in a fork, which ends with it."""
        from hf_gar.cli import main

        files = socket.recv_fds(self.request, 1, 3)[1]
        request = b"".join(iter(lambda: self.request.recv(65536), b""))
        arguments, variables, folder = json.loads(request)
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(folder)
        sys.argv[:] = ["hf-gar", *arguments]
        try:
            code = main(arguments)
        except SystemExit as stopped:  # argparse
            code = stopped.code
        with contextlib.suppress(BrokenPipeError):  # `hf-gar ... | head`
            sys.stdout.flush()
        atexit._run_exitfuncs()  # which end the processes that this one started; ForkingMixIn leaves them out
        self.request.sendall(str(code).encode())


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    pass


def _serve(address: str) -> None:
    import hf_gar

    for name in hf_gar.__all__:
        getattr(hf_gar, name)
    for name in LIBRARIES:
        importlib.import_module(name)
    with _Server(address, _Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


@contextlib.contextmanager
def preloaded_command(folder: Path) -> Iterator[Path]:
    """Run the process during the block; gives a folder with the command `hf-gar`."""
    address = str(folder / "socket")
    (folder / "bin").mkdir()
    command = folder / "bin" / "hf-gar"
    command.write_text(COMMAND.format(python=sys.executable, address=address))
    command.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.preloaded", address],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield command.parent
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    _serve(sys.argv[1])
