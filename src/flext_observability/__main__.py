"""``python -m flext_observability``, same as the command ``flext-observability``."""

from .cli import main

raise SystemExit(main())
