"""What a fork server imports first: it calls setup, as an application module does."""

import json
import os

import flext_observability as fo

if "FAMILY_SETUP" in os.environ:
    fo.setup("family", **json.loads(os.environ["FAMILY_SETUP"])).unwrap()
    # Its records too are the fork server's own.
    with fo.flext_span("op", {"who": "server", "n": 0}):
        pass
