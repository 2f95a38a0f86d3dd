"""The operator's process holds no more than it needs: it runs for years beside everybody's control plane."""

import subprocess
import sys


def test_it_loads_no_library_of_arrays():
    script = "import sys, segviz_operator.__main__; print({'numpy', 'torch', 'monai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "set()\n"
