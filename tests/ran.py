"""Run a dvc command and check which stages it executed: python -m tests.ran expect STAGE... -- COMMAND..."""

import subprocess
import sys

if __name__ == "__main__":
    split = sys.argv.index("--")
    expected, command = set(sys.argv[2:split]), sys.argv[split + 1 :]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    executed = {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage '")}
    if done.returncode or executed != expected:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}; executed {sorted(executed)}, expected {sorted(expected)}")
