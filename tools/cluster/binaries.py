"""The servers, built by `tools/build.py` and found in its cache."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import build

SERVERS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kube-router",
    "kubectl",
    "coredns",
    "minio",
    "helm",
)


@cache
def binary(name: str) -> Path:
    def say(text: str) -> None:
        # A cached one is no news.
        if not text.endswith("cached\n"):
            print(text, end="", file=sys.stderr, flush=True)

    return build.ensure_built(name, build.find_go(), build.CACHE.absolute(), say)
