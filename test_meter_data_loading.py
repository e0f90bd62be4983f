"""The guide's script of this name: `python3 test_meter_data_loading.py --limit 10` is `bulk-upload check …`."""

import sys
from pathlib import Path

try:
    from cli import main
except ModuleNotFoundError as error:
    python = Path(__file__).with_name(".venv") / "bin" / "python"
    sys.exit(f"{error}, for this Python. `make setup` makes one that has it: {python} {' '.join(sys.argv)}")

if __name__ == "__main__":
    sys.argv[1:1] = ["check"]
    main()
