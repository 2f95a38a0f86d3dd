"""`python -m segviz_operator`: the operator of a cluster."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import kopf
import msgspec

from segviz_exchange.contract.choices import ImagePullPolicy
from segviz_exchange.contract.site_spec import TrainerPod
from segviz_exchange.process import logs
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.http_pages import Answer, Pages, every_interface, own_hosts
from segviz_operator.access.signing import Signing
from segviz_operator.access.web_identity import WebIdentity
from segviz_operator.cluster.api.client import Cluster, ClusterError
from segviz_operator.cluster.api.connection import connect
from segviz_operator.cluster.api.names import MANAGER
from segviz_operator.cluster.api.reach import watch_what_can_be
from segviz_operator.cluster.api.sight import Sight
from segviz_operator.cluster.credentials.own_key import load_own_key
from segviz_operator.cluster.reconcile.controller import WORKERS, Controller
from segviz_operator.cluster.reconcile.handlers import register
from segviz_operator.cluster.reconcile.reconciler import Reconciler
from segviz_operator.cluster.reconcile.settings import Images, Settings
from segviz_operator.watch.metrics import OperatorMetrics
from segviz_operator.watch.page import StatusPage

log = logging.getLogger("segviz_operator")


@click.command(context_settings={"auto_envvar_prefix": "SEGVIZ_OPERATOR", "show_default": True})
@click.option(
    "--namespace", "namespaces", multiple=True, help="Work in this namespace only. May be repeated."
)
@click.option(
    "--pods",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON: what a site's spec.trainer says of its Pod, here of `aggregator` and `export`.",
)
@click.option("--aggregator-image", help="Without --pods: image of the aggregator's Jobs.")
@click.option("--trainer-image", help="Without --pods: image of the export's Jobs; sites choose their own.")
@click.option(
    "--image-pull-policy",
    type=click.Choice([str(each) for each in ImagePullPolicy]),
    default=str(ImagePullPolicy.IF_NOT_PRESENT),
)
@click.option("--image-pull-secret", "pull_secrets", multiple=True, help="In each federation's namespace.")
@click.option("--poll-seconds", default=10.0, type=click.FloatRange(min=0.2, max=3600))
@click.option(
    "--stuck-after-seconds",
    default=120.0,
    type=click.FloatRange(min=1),
    help="So long a Pod may be missing or not run before its federation is Degraded for it.",
)
@click.option(
    "--silent-after-seconds",
    default=300.0,
    type=click.FloatRange(min=1),
    help="So old heartbeats must be before a federation goes on with another one's records (store.adoptUid).",
)
@click.option(
    "--liveness", default="http://0.0.0.0:8080/healthz", help="Where the probe asks; empty for none."
)
@click.option(
    "--pod-address", default="", help="In place of --liveness's host, where the kubelet asks; IPv6 too."
)
@click.option("--metrics-port", default=9090, type=click.IntRange(0, 65535), help="0 for none.")
@click.option(
    "--page-port",
    default=8081,
    type=click.IntRange(0, 65535),
    help="A read-only page, on the Pod's loopback only: kubectl port-forward reaches it. 0 for none.",
)
@click.option("--sts-endpoint", default="", help="A token service that takes the operator's own identity.")
@click.option(
    "--web-identity-token-file",
    "token_file",
    envvar="AWS_WEB_IDENTITY_TOKEN_FILE",
    default="/segviz/identity/token",
    type=click.Path(path_type=Path),
    help="That identity: a token of the operator's service account, for the service's audience.",
)
@click.option(
    "--key-secret",
    default="",
    help="NAMESPACE/NAME of the Secret with the operator's signing key, made there if it is empty. "
    "Left out, records are not signed.",
)
@click.option("--role-arn", envvar="AWS_ROLE_ARN", default="", help="The role that is asked for with it.")
@click.option("--log-format", type=click.Choice(["plain", "full", "json"]), default="plain")
@click.option("--verbose", is_flag=True)
def main(
    namespaces: tuple[str, ...],
    pods: Path | None,
    aggregator_image: str | None,
    trainer_image: str | None,
    image_pull_policy: str,
    pull_secrets: tuple[str, ...],
    poll_seconds: float,
    stuck_after_seconds: float,
    silent_after_seconds: float,
    liveness: str,
    pod_address: str,
    metrics_port: int,
    page_port: int,
    sts_endpoint: str,
    token_file: Path,
    role_arn: str,
    key_secret: str,
    log_format: str,
    verbose: bool,
) -> None:
    """Watch federations and sites, and make Jobs of them.

    Every option can be an environment variable, SEGVIZ_OPERATOR_AGGREGATOR_IMAGE for --aggregator-image.
    """
    kopf.configure(verbose=verbose, log_format=kopf.LogFormat[log_format.upper()])
    logging.getLogger("kopf").setLevel(logging.DEBUG if verbose else logging.WARNING)
    # One line for each probe of the kubelet would be most of the log.
    logging.getLogger("aiohttp.access").setLevel(logging.DEBUG if verbose else logging.WARNING)
    if pods is not None:
        images = read_pods(pods)
    elif aggregator_image and trainer_image:
        policy = ImagePullPolicy(image_pull_policy)
        images = Images(
            TrainerPod(policy, aggregator_image, pull_secrets),
            TrainerPod(policy, trainer_image, pull_secrets),
        )
    else:
        raise click.UsageError("Which images? Give --pods, or --aggregator-image and --trainer-image.")
    if log_format == "json" or logs.as_json():
        # In place of kopf's handlers: every Pod of SegViz writes the same fields.
        logs.configure("operator", json=True)
    metrics, cluster = OperatorMetrics(), Cluster(connect(WORKERS))
    sight = Sight(cluster)
    metrics.watching(lambda: not sight.blind)
    if metrics_port:
        Pages({"/metrics": metrics.page, "/readyz": sight.page}, metrics_port, every_interface())
    if page_port:
        Pages({"/": StatusPage(metrics.federations.watched)}, page_port, hosts=own_hosts())
    liveness = liveness_at(liveness, pod_address)
    identity = WebIdentity(sts_endpoint, token_file, role_arn) if sts_endpoint else None
    settings = Settings(
        images,
        poll_seconds,
        timedelta(seconds=stuck_after_seconds),
        timedelta(seconds=silent_after_seconds),
        identity,
        _signing(cluster, key_secret),
    )
    reconciler = Reconciler(cluster, settings, metrics)

    def watch(there: tuple[str, ...], stop: threading.Event | None) -> None:
        registry = kopf.OperatorRegistry()
        register(registry)

        @kopf.on.cleanup(registry=registry)
        async def release(**_: object) -> None:
            if stop is not None:
                stop.set()  # a thread of kopf's waits for it, and the process for the thread

        scope: dict[str, Any] = {"namespaces": there} if there else {"clusterwide": True}
        # Else kopf asks the system for a user's name, and a container's user has none.
        scope["identity"] = MANAGER
        kopf.run(
            registry=registry,
            memo=Controller(reconciler),
            liveness_endpoint=liveness or None,
            stop_flag=stop,
            **scope,
        )

    with _alive(liveness):
        sight.wait()
    sight.keep_looking()
    if namespaces:
        watch_what_can_be(cluster, namespaces, watch)
    else:
        watch((), None)


def _signing(cluster: Cluster, secret: str) -> Signing | None:
    if not secret:
        return None
    namespace, slash, name = secret.partition("/")
    if not (namespace and slash and name):
        raise click.BadParameter(f"{secret}: write NAMESPACE/NAME", param_hint="--key-secret")
    try:
        return Signing(load_own_key(cluster, namespace, name))
    except (Refusal, ClusterError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _alive(url: str) -> Iterator[None]:
    """Answer the liveness probe until kopf does: to wait for the CRDs is no reason to be started again."""
    if not url:
        yield
        return
    where = urlsplit(url)
    alive = Answer(b"waiting\n", "text/plain; charset=utf-8")
    pages = Pages({where.path: lambda _: alive}, where.port or 80, where.hostname or "")
    try:
        yield
    finally:
        pages.close()


def liveness_at(url: str, address: str) -> str:
    """The same port and path at a Pod's own address, of whichever family the cluster has given it."""
    if not url or not address:
        return url
    where = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    return where._replace(netloc=f"{host}:{where.port or 80}").geturl()


def read_pods(path: Path) -> Images:
    try:
        images = msgspec.json.decode(path.read_bytes(), type=Images)
    except (OSError, msgspec.DecodeError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--pods") from error
    for name in Images.__struct_fields__:
        if not getattr(images, name).image:
            raise click.BadParameter(f"{path}: {name} has no image", param_hint="--pods")
    return images


if __name__ == "__main__":
    sys.exit(main())
