"""``python -m jscope``: the command line."""

import sys

from jscope.io._command_line import main

sys.exit(main())
