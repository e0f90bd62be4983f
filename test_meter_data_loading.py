"""The guide's script of this name: `python3 test_meter_data_loading.py --limit 10` is `bulk-upload check …`."""

import sys

from cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["check"]
    main()
