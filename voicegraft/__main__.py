"""``python -m voicegraft`` is the console script."""

import sys

from voicegraft.cli import main

sys.exit(main())
