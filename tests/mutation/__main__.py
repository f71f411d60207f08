"""`python -m tests.mutation [module …] [--limit n] [--json path]`."""

import sys

from .run import main

sys.exit(main())
