"""A federation of two sites that may be planned, as its people write it."""

from pathlib import Path
from typing import Any

import yaml

from builders.mistakes import build_federation, build_site


def manifests(folder: Path, **spec: Any) -> Path:
    federation = build_federation()
    federation["spec"] |= spec
    sites = []
    for namespace, name, organ in (("basel", "liver", "liver"), ("bern", "spleen", "spleen")):
        site = build_site(name, organ)
        site["metadata"]["namespace"] = namespace
        site["spec"] |= {
            "allowedFederations": [{"namespace": "default", "name": "abdomen"}],
            "dataSets": [{"name": organ, "path": organ, "layout": "List", "organs": {organ: [1]}}],
            "split": {"train": 80, "validation": 20, "test": 0},
        }
        sites.append(site)
    path = folder / "all.yaml"
    path.write_text(yaml.safe_dump_all([federation, *sites]), encoding="utf-8")
    return path
