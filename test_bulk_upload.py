"""The guide's script of this name: `python3 test_bulk_upload.py --limit 3` is `bulk-upload run …`."""

import sys

from cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["run"]
    main()
