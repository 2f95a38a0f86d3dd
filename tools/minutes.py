"""Minutes that each test file took, from pytest's JUnit reports: `python tools/minutes.py REPORT...`."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree


def main() -> int:
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in map(Path, sys.argv[1:]):
        for case in ElementTree.parse(report).iter("testcase"):
            seconds[case.get("file", "?")] += float(case.get("time", 0))
    for file, spent in sorted(seconds.items(), key=lambda each: -each[1]):
        print(f"{spent / 60:7.2f} min  {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
