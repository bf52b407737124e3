"""Commands that are killed."""

import random
import signal
import subprocess
import time
from pathlib import Path


def num_finished(output: Path) -> int:
    return len(list(output.glob("part-*.parquet")))


def kill_until_done(arguments: list[str], output: Path, kills: int, shards: int, exit_code: int = 0) -> None:
    """Run a command again and again, and kill it so many times at work, at a random moment; then let it end."""
    moments = random.Random(0)
    for kill in range(kills):
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Not so late that too few shards are left for the other kills.
        deadline = time.monotonic() + moments.uniform(1, 12)
        while time.monotonic() < deadline and num_finished(output) < shards * (kill + 1) // (kills + 1):
            time.sleep(0.01)
        assert process.poll() is None, "the command ended before it was killed"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert subprocess.run(arguments, check=False, capture_output=True).returncode == exit_code
