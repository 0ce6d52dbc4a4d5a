"""What stands in a Workspace's way until its user mends it, and whether that is reason enough not to buy a node yet."""

from __future__ import annotations

from kaito.controllers.workspace.decide.adapters import AdaptersOutcome
from kaito.controllers.workspace.decide.children import ours
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.settings import CONFIG_FILE
from kaito.controllers.workspace.decide.wanted import Problem
from kaito.controllers.workspace.model import Observed, metadata


def name_taken(observed: Observed) -> Problem | None:
    """Whose name keeps the workload or its Services from being made."""
    children = (
        ("Deployment", observed.deployment),
        ("StatefulSet", observed.stateful_set),
        ("Service", observed.service),
        ("Service", observed.headless),
    )
    for kind, child in children:
        if child is not None and not ours(child, observed.workspace):
            name = metadata(child).get("name")
            return Problem(
                "NameTaken",
                f"a {kind} {name} exists already and is not this Workspace's: delete it, or give the Workspace "
                "another name",
            )
    return None


def unusable_config_map(observed: Observed, plan: Plan) -> Problem | None:
    """`inference.config` names something that is not there, or that no server can read."""
    if plan.config_map is None:
        return None
    if observed.config_hash is None:
        sentence = no_config_map(plan.config_map, plan.namespace)
        return Problem.at("inference.config", "ConfigMapNotFound", sentence)
    if observed.config_fault:
        sentence = f"{CONFIG_FILE} in ConfigMap {plan.config_map} {observed.config_fault}"
        return Problem.at("inference.config", "InvalidSpec", sentence)
    if plan.preset_options.get("image"):
        return None  # the server in an image of the user's own may take other settings
    runtimes = dict.fromkeys(each.runtime for each in (plan.choice, *plan.choices) if each is not None)
    for runtime in runtimes:
        if fault := observed.config_faults.get(runtime):
            sentence = f"{fault} ({CONFIG_FILE} in ConfigMap {plan.config_map})"
            return Problem.at("inference.config", "InvalidSpec", sentence)
    return None


def no_config_map(name: str, namespace: str) -> str:
    """What to tell whoever names a ConfigMap that is not there."""
    return f"there is no ConfigMap {name} in namespace {namespace}; create it"


def before_first_node(observed: Observed, plan: Plan, adapters: AdaptersOutcome) -> Problem | None:
    """What has to be mended, or known, before money is spent; None where a model runs already.

    Of an adapter that is its rank, from which the number of nodes follows. Without it no pod would be made on them
    either, so one that cannot be read costs no node. Claims that exist are not given up for any of it: whoever asks for
    this has none.
    """
    taken = name_taken(observed)
    if taken is not None:
        return taken
    if observed.deployment is not None or observed.stateful_set is not None:
        return None
    return adapters.problem or unusable_config_map(observed, plan)
