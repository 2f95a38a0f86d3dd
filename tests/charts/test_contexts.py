"""What `images/contexts.sh` locks for each image is what `make images` locks."""

import re
import sys

from builders.rendered import TOP

sys.path.insert(0, str(TOP / "tools"))
from cluster.images import ROLES


def test_a_context_of_the_script_has_the_extras_of_its_role() -> None:
    text = (TOP / "images/contexts.sh").read_text(encoding="utf-8")
    said = dict(re.findall(r'^    (\w+)\) extras="(.*)" ;;$', text, re.MULTILINE))
    assert {role: tuple(extras.replace("--extra ", "").split()) for role, extras in said.items()} == {
        role.name: role.extras for role in ROLES
    }
    assert f"for role in {' '.join(said)}; do" in text
