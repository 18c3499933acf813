"""Write requirements.txt: what the image installs, from pyproject.toml.

usage: export_requirements.py [--check]
"""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "requirements.txt"
# What the operations server needs beside the library itself.
EXTRAS = ("server", "system")
HEAD = "# Written by `make build` from pyproject.toml; what the Dockerfile installs.\n"


def exported() -> str:
    """Give the text of requirements.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(each for name in EXTRAS for each in extras[name]),
    ]
    return HEAD + "".join(f"{line}\n" for line in sorted(set(wanted), key=str.lower))


def main() -> int:
    """Write the file, or say that it is not as it should be."""
    text = exported()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print("requirements.txt does not follow pyproject.toml: run make build")
    return 1


if __name__ == "__main__":
    sys.exit(main())
