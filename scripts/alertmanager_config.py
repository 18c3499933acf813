"""Check alertmanager/alertmanager.yml with amtool, and have Alertmanager load it.

usage: alertmanager_config.py    (ALERTMANAGER_URL, http://localhost:9093 by default)
"""

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "alertmanager/alertmanager.yml"


def main() -> int:
    """Check, then load."""
    amtool = shutil.which("amtool")
    if amtool is None:
        return _said("amtool is not installed (Debian: prometheus-alertmanager)")
    checked = subprocess.run([amtool, "check-config", CONFIG], check=False)
    if checked.returncode:
        return _said(f"amtool refuses {CONFIG}")
    address = (
        os.environ.get("ALERTMANAGER_URL")
        or os.environ.get("ALERT_MANAGER_URL")
        or "http://localhost:9093"
    )
    if not address.startswith(("http://", "https://")):
        return _said(f"ALERTMANAGER_URL is no URL: {address}")
    request = urllib.request.Request(  # noqa: S310 - checked above
        f"{address.rstrip('/')}/-/reload", method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - as above
            print(f"loaded by {address}")
    except urllib.error.HTTPError as error:
        with error:
            why = error.read(1000).decode(errors="replace").strip() or error.reason
        return _said(f"Alertmanager at {address} does not load it: {error.code} {why}")
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or str(reason)
        return _said(
            f"cannot reach Alertmanager at {address}: {why.lower()}; start it "
            "(make monitoring-setup), or set ALERTMANAGER_URL"
        )
    return 0


def _said(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
