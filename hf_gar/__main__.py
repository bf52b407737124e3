"""`python -m hf_gar` is the command `hf-gar`."""

import sys

from hf_gar.cli import main

sys.exit(main())
