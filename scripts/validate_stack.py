"""Check the stack's files with the programs that read them.

usage: validate_stack.py
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
# Checks of our own: parts that fit together, files equal to what the generator writes.
OUR_TESTS = ("tests/unit/test_stack_files.py", "tests/unit/test_collector_config.py")


def main() -> int:
    """Run every check; stop at the first that fails."""
    for name, package in (
        ("promtool", "prometheus"),
        ("amtool", "prometheus-alertmanager"),
    ):
        if shutil.which(name) is None:
            print(f"{name} is not installed (Debian: {package})", file=sys.stderr)
            return 1
    folder = ROOT / "prometheus"
    rules = sorted(map(str, (folder / "rules").glob("*.yml")))
    tests = sorted(map(str, (folder / "rules/tests").glob("*.yml")))
    commands: list[Sequence[str]] = [
        ("promtool", "check", "config", str(folder / "prometheus.yml")),
        ("promtool", "check", "rules", *rules),
        ("promtool", "test", "rules", *tests),
        ("amtool", "check-config", str(ROOT / "alertmanager/alertmanager.yml")),
        (PYTHON, "-m", "pytest", "--quiet", *OUR_TESTS),
    ]
    for command in commands:
        print("==", *command[:3], flush=True)
        done = subprocess.run(command, cwd=ROOT, check=False)
        if done.returncode:
            print(f"failed: {' '.join(command[:3])}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
