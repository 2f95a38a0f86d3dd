"""Real servers, each started when a test first asks for it.

Here and not above `tests/unit`, whose workers would import the clients of all of them for nothing.
"""

from integration.apiserver import apiserver, controllers, crds
from integration.guarded import guarded
from integration.object_stores import minio, versitygw
from integration.operator_rig import rig
from integration.secure_store import secure

__all__ = ["apiserver", "controllers", "crds", "guarded", "minio", "rig", "secure", "versitygw"]
