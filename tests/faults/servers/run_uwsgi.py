"""Run uWSGI with the arguments of the command line."""

import sys

import pyuwsgi  # type: ignore[import-not-found,unused-ignore]  # group servers

pyuwsgi.run(sys.argv[1:])
