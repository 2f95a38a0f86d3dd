"""Rounds without training in the peers' simulators, in the peers' own environments: for bench/round.py.

    .flwr/bin/python bench/round_peers.py flwr --shapes shapes.json --folder DIR --rounds 20 --sites 4

Each site sends back the arrays that it got; FedAvg merges them. Prints the seconds of every round.
"""

import argparse
import json
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

_NVFLARE_SITE = """
import json, sys, time
import nvflare.client as flare
flare.init()
out = open(sys.argv[1] + "/" + flare.get_site_name(), "a")
while flare.is_running():
    got = flare.receive()
    out.write(f"{time.time()}\\n")
    out.flush()
    flare.send(flare.FLModel(params=got.params, params_type="FULL", meta={"NUM_STEPS_CURRENT_ROUND": 1}))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=("flwr", "nvflare"))
    parser.add_argument("--shapes", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--sites", type=int, required=True)
    options = parser.parse_args()
    shapes = json.loads(options.shapes.read_text(encoding="utf-8"))
    measure = {"flwr": flower, "nvflare": nvflare}[options.peer]
    seconds = measure(model(shapes), options)
    print(json.dumps({"version": version(options.peer), "seconds": seconds}), flush=True)


def model(shapes: dict[str, list[int]]) -> dict[str, Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    return {name: np.asarray(generator.standard_normal(shape), np.float32) for name, shape in shapes.items()}


def flower(arrays: dict[str, Any], options: argparse.Namespace) -> list[float]:
    from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    times: list[float] = []
    site, server = ClientApp(), ServerApp()

    @site.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        content = {"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})}
        return Message(content=RecordDict(content), reply_to=message)

    class Timed(FedAvg):  # type: ignore[misc]
        def aggregate_train(self, server_round: int, replies: Any) -> Any:  # noqa: ANN401 - Flower's
            merged = super().aggregate_train(server_round, replies)
            times.append(time.time())
            return merged

    @server.main()  # type: ignore[untyped-decorator]
    def run(grid: Grid, context: Context) -> None:
        count = options.sites
        strategy = Timed(fraction_evaluate=0.0, min_train_nodes=count, min_available_nodes=count)
        first = ArrayRecord({name: Array(value) for name, value in arrays.items()})
        strategy.start(grid, first, num_rounds=options.rounds)

    run_simulation(server_app=server, client_app=site, num_supernodes=options.sites)
    return _differences(times)


def nvflare(arrays: dict[str, Any], options: argparse.Namespace) -> list[float]:
    import numpy as np
    from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
    from nvflare.recipe.sim_env import SimEnv

    folder = options.folder.absolute()
    script, times, first = folder / "site.py", folder / "times", folder / "first.npy"
    script.write_text(_NVFLARE_SITE, encoding="utf-8")
    times.mkdir()
    np.save(first, np.concatenate([value.ravel() for value in arrays.values()]))
    recipe = NumpyFedAvgRecipe(
        name="round",
        initial_ckpt=str(first),
        min_clients=options.sites,
        num_rounds=options.rounds,
        train_script=str(script),
        train_args=str(times),
    )
    recipe.execute(SimEnv(num_clients=options.sites, workspace_root=str(folder / "work")))
    told = sorted(times.iterdir())[0].read_text(encoding="utf-8")
    return _differences([float(line) for line in told.split()])


def _differences(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


if __name__ == "__main__":
    main()
