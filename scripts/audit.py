"""Ask pip-audit for known vulnerabilities of what is installed here.

A finding fails. A database that cannot be reached is reported as skipped, for a machine
without that access must still be able to run the other checks; any other trouble fails.
"""

import json
import re
import subprocess
import sys

NETWORK_ERRORS = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|ProxyError"
    r"|SSLError|ServiceError|50[234] Server Error"
)


def main() -> int:
    """Return 0 when nothing was found or the database could not be asked."""
    audit = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--local", "--skip-editable"),
            *("--format", "json", "--progress-spinner", "off"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages = json.loads(audit.stdout)["dependencies"]
    except ValueError:
        trouble = audit.stderr.strip().rpartition("\n")[2]
        if NETWORK_ERRORS.search(audit.stderr):
            print(f"pip-audit: skipped, its database is unreachable ({trouble})")
            return 0
        print(f"pip-audit: failed: {trouble}", file=sys.stderr)
        return 1
    asked = [package for package in packages if "vulns" in package]
    if not asked:
        print("pip-audit: skipped, its database is unreachable (it knew no package)")
        return 0
    findings = [
        f"{package['name']} {package['version']}: {finding['id']}"
        f" (fixed in {', '.join(finding['fix_versions']) or 'no release yet'})"
        for package in asked
        for finding in package["vulns"]
    ]
    print("\n".join([*findings, f"pip-audit: {len(asked)} packages asked about"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
