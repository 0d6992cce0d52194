"""`python -m dlcheck VERB …`: the command line of this very interpreter."""

import sys

from dlcheck.cli import main

sys.exit(main())
