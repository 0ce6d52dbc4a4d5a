"""The `kaito` command.

Only the names and options of commands live here; what a command does is imported when it runs, so that `kaito --help`
is quick and `kaito chat` never loads the operator.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from kaito import __version__
from kaito.cli.errors import CliError
from kaito.cli.operator.config import (
    CLAIM_KINDS,
    EXISTING_SELECTOR,
    INITIALIZATION_TIMEOUT,
    LAUNCH_TIMEOUT,
    REGISTRATION_TIMEOUT,
)
from kaito.runtime.errors import ConfigurationError, TransportError

app = typer.Typer(
    name="kaito",
    help="KAITO in Python: apply a Workspace, get GPU nodes and a served model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
local = typer.Typer(help="A Kubernetes on this machine with the operator in it.", no_args_is_help=True)
app.add_typer(local, name="local")

Directory = Annotated[
    Path, typer.Option("--dir", help="Folder for kubeconfig, logs and pods. Nothing outside it is touched.")
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="REF=oci:PATH",
        help="Answer for image REF with the OCI image layout in folder PATH. May be given several times.",
    ),
]
NODE_PROVISIONER_HELP = (
    "machine | nodeclaim (alias azure-gpu-provisioner) | karpenter (a NodePool for each Workspace) | byo. "
    "What asks for nodes."
)
NodeProvisionerFlag = Annotated[str, typer.Option("--node-provisioner", help=NODE_PROVISIONER_HELP)]
ExistingSelector = Annotated[
    str,
    typer.Option(
        envvar="EXISTING_SELECTOR",
        help="With --cloud-provider=existing: label selector of the nodes that may be lent.",
    ),
]
ClaimKinds = Annotated[
    str,
    typer.Option(
        envvar="CLAIM_KINDS",
        help="With a cloud: which claims it serves, machine or nodeclaim or both. Their definitions must be there.",
    ),
]
LaunchTimeout = Annotated[
    float,
    typer.Option(
        envvar="LAUNCH_TIMEOUT",
        min=1.0,
        help="Seconds a cloud may take to make a claim's machine before the claim is replaced. Time in a queue or "
        "without quota does not count.",
    ),
]
RegistrationTimeout = Annotated[
    float,
    typer.Option(
        envvar="REGISTRATION_TIMEOUT",
        min=1.0,
        help="Seconds until a machine has become a node, else its claim is replaced.",
    ),
]
InitializationTimeout = Annotated[
    float,
    typer.Option(
        envvar="INITIALIZATION_TIMEOUT",
        min=1.0,
        help="Seconds until a node can take pods: else its claim is replaced, or says that the GPUs are missing.",
    ),
]
AksOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--aks-option",
        envvar="AKS_OPTIONS",
        metavar="NAME=VALUE",
        help="With --cloud-provider=aks: an option of agent pools, for claims that do not say otherwise. May be given "
        "several times; docs/aks.md lists the names.",
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Default: $KUBECONFIG, else a running local mode's, else ~/.kube/config."),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the Workspace.")]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig. Default: its current one.")]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs a command to its end; Ctrl-C is a normal way to end one."""
    try:
        asyncio.run(coroutine)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@local.command("up")
def local_up(
    directory: Directory = Path(".kaito"),
    image: Images = None,
    weights: Annotated[
        str,
        typer.Option(
            help="stand-in: small demo weights answer for the Phi-3 presets. real: download the real ones."
        ),
    ] = "stand-in",
    preset: Annotated[
        list[str] | None,
        typer.Option(help="With --weights=real: download this preset's weights. May be given several times."),
    ] = None,
    node_provisioner: NodeProvisionerFlag = "machine",
    only: Annotated[
        str | None,
        typer.Option(
            help="`api`: only the API server, for work on controllers: no node, no workload controllers, no operator."
        ),
    ] = None,
    crds: Annotated[
        list[Path] | None,
        typer.Option(
            "--crds",
            metavar="FILE|DIR",
            help="Serve the CustomResourceDefinitions in this YAML or JSON file, or in all of a folder, too. May be "
            "given several times.",
        ),
    ] = None,
) -> None:
    """Start it and keep it up until Ctrl-C.

    `--only api` is a Kubernetes API for hand work on controllers: objects are kept and served, and nothing runs. The
    same server stands behind the pytest fixture `kube_api`.
    """
    from kaito.cli.local.commands import check_up_options, read_crds, up
    from kaito.cli.local.images import parse_image_map
    from kaito.cli.local.options import LocalOptions

    check_up_options(weights, preset or [], only, node_provisioner)
    downloaded: dict[str, Path] = {}
    if weights == "real":
        from kaito.catalog import load_catalog
        from kaito.cli.local.weights import obtain

        downloaded = obtain(load_catalog(), preset or [], directory / "weights", typer.echo)
    options = LocalOptions(
        parse_image_map(image or []),
        downloaded,
        node_provisioner,
        operator=only is None,
        crds=tuple(read_crds(crds or [])),
    )
    run(up(directory, options))


@local.command("down")
def local_down(directory: Directory = Path(".kaito")) -> None:
    """End a running local mode."""
    from kaito.cli.local.commands import down

    run(down(directory))


@local.command("status")
def local_status(directory: Directory = Path(".kaito")) -> None:
    """Say what runs, where, and what the Workspaces do."""
    from kaito.cli.local.commands import status

    run(status(directory))


@app.command()
def demo(directory: Directory = Path(".kaito")) -> None:
    """Apply the first examples on this machine and ask the model: the main job, for real, in a minute."""
    from kaito.cli.demo import run_demo

    run(run_demo(directory))


@app.command()
def chat(
    workspace: Annotated[str, typer.Argument(help="Name of the Workspace.")],
    prompt: Annotated[str | None, typer.Argument(help="One question. Without it: a conversation.")] = None,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Ask a Workspace's model."""
    from kaito.cli.chat import run_chat

    run(run_chat(workspace, prompt, namespace=namespace, kubeconfig=kubeconfig, context=context))


@app.command()
def proxy(
    workspace: Annotated[str, typer.Argument(help="Name of the Workspace.")],
    namespace: Namespace = "default",
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Give a Workspace's model an OpenAI-compatible address on this machine."""
    from kaito.cli.chat import run_proxy

    run(run_proxy(workspace, namespace=namespace, port=port, kubeconfig=kubeconfig, context=context))


@app.command()
def operator(
    kubeconfig: Annotated[Path | None, typer.Option(help="Outside a cluster: the kubeconfig to use.")] = None,
    context: Annotated[
        str | None,
        typer.Option(help="Outside a cluster: the context, by name. There is no default on purpose."),
    ] = None,
    node_provisioner: Annotated[
        str, typer.Option(envvar="NODE_PROVISIONER", help=NODE_PROVISIONER_HELP)
    ] = "machine",
    node_class_group: Annotated[
        str,
        typer.Option(
            envvar="NODE_CLASS_GROUP",
            help="API group of the node class of NodeClaims and NodePools: karpenter.azure.com, karpenter.k8s.aws, …. "
            "Default: as the gpu-provisioner wants it; with karpenter as the cloud's Karpenter does.",
        ),
    ] = "",
    node_class_kind: Annotated[
        str, typer.Option(envvar="NODE_CLASS_KIND", help="Its kind: AKSNodeClass, EC2NodeClass, ….")
    ] = "",
    node_class_name: Annotated[
        str, typer.Option(envvar="NODE_CLASS_NAME", help="Its name. Default: default.")
    ] = "",
    node_class_names: Annotated[
        str,
        typer.Option(
            envvar="NODE_CLASS_NAMES",
            help="With karpenter: other names, with commas between them, that Workspaces may choose by the annotation "
            "kaito.sh/node-class-name.",
        ),
    ] = "",
    cloud: Annotated[
        str, typer.Option(envvar="CLOUD_PROVIDER", help="azure | aws | arc: whose machine sizes are named.")
    ] = "azure",
    cloud_provider: Annotated[
        str,
        typer.Option(
            help="Who makes machines for claims. none: another Karpenter-core compatible controller does. "
            "instant: Node objects of the local mode. existing, aks: as `kaito provisioner` does, in this process."
        ),
    ] = "none",
    existing_selector: ExistingSelector = EXISTING_SELECTOR,
    claim_kinds: ClaimKinds = CLAIM_KINDS,
    aks_options: AksOptions = None,
    launch_timeout: LaunchTimeout = LAUNCH_TIMEOUT,
    registration_timeout: RegistrationTimeout = REGISTRATION_TIMEOUT,
    initialization_timeout: InitializationTimeout = INITIALIZATION_TIMEOUT,
    preset_registry: Annotated[
        str | None,
        typer.Option(envvar="PRESET_REGISTRY_NAME", help="Registry and path of the preset images."),
    ] = None,
    stand_in_weights: Annotated[
        str,
        typer.Option(
            help="Only for the local mode: the preset whose small weights answer in place of real ones."
        ),
    ] = "",
    image: Images = None,
    metrics_bind_address: Annotated[
        str, typer.Option(help='Address of /metrics; "0" turns it off.')
    ] = ":8080",
    health_probe_bind_address: Annotated[
        str, typer.Option(help='Address of /healthz and /readyz; "0" turns it off.')
    ] = ":8081",
    leader_elect: Annotated[
        bool, typer.Option(envvar="LEADER_ELECT", help="Only the holder of the Lease reconciles.")
    ] = False,
    log_format: Annotated[str, typer.Option(envvar="LOG_FORMAT", help="json | human")] = "json",
    webhook: Annotated[
        bool | None,
        typer.Option(
            "--webhook/--no-webhook",
            help="Judge Workspaces and Adapters before they are stored. Default: in a pod.",
        ),
    ] = None,
    webhook_bind_address: Annotated[
        str | None,
        typer.Option(help="Address of the webhook. Default: every interface, at port $WEBHOOK_PORT or 9443."),
    ] = None,
    webhook_service: Annotated[
        str,
        typer.Option(envvar="WEBHOOK_SERVICE", help="Service by which the API server reaches the webhook."),
    ] = "kaito-webhook",
    webhook_cert_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with tls.crt and tls.key, as cert-manager fills it. Default: the operator makes its own."
        ),
    ] = None,
    webhook_register: Annotated[
        bool,
        typer.Option(
            "--webhook-register",
            help="Register the webhook under this machine's own address: beside an API server on the same machine.",
        ),
    ] = False,
) -> None:
    """Run the workspace, machine and adapter controllers against a cluster."""
    from kaito.cli.operator.config import OperatorConfig
    from kaito.cli.operator.run import run_operator

    run(
        run_operator(
            OperatorConfig(
                kubeconfig=kubeconfig,
                context=context,
                node_provisioner=node_provisioner,
                node_class_group=node_class_group,
                node_class_kind=node_class_kind,
                node_class_name=node_class_name,
                node_class_names=node_class_names,
                cloud=cloud,
                cloud_provider=cloud_provider,
                existing_selector=existing_selector,
                claim_kinds=claim_kinds,
                aks_options=aks_options,
                launch_timeout=launch_timeout,
                registration_timeout=registration_timeout,
                initialization_timeout=initialization_timeout,
                preset_registry=preset_registry,
                stand_in_weights=stand_in_weights,
                images=tuple(image or ()),
                metrics_bind_address=metrics_bind_address,
                health_probe_bind_address=health_probe_bind_address,
                leader_elect=leader_elect,
                log_format=log_format,
                webhook=webhook,
                webhook_bind_address=webhook_bind_address,
                webhook_service=webhook_service,
                webhook_cert_dir=webhook_cert_dir,
                webhook_register=webhook_register,
            )
        )
    )


@app.command()
def uninstall(
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Do not ask. Wants --context, so that no other cluster is met."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    without_operator: Annotated[
        bool,
        typer.Option(
            "--without-operator",
            help="The operator is gone already: delete the claims, and take its finalizer off the Workspaces.",
        ),
    ] = False,
    crds: Annotated[
        bool,
        typer.Option("--crds", help="At last remove KAITO's CustomResourceDefinitions, and so Adapters."),
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for nodes to go, and then for the operator to.")
    ] = 1800.0,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Default: $KUBECONFIG, else ~/.kube/config.")
    ] = None,
    context: Context = None,
) -> None:
    """Remove Workspaces and the nodes behind them, wait until they are gone, then remove the operator.

    Asks before it changes anything, and can be repeated at any time: it goes on where it stopped. Exit status: 0 all is
    gone; 1 the cluster cannot be reached or refuses something; 2 not confirmed; 3 Workspaces are there but no operator
    to end them; 4 not gone in time.
    """
    from kaito.cli.uninstall.command import run_uninstall
    from kaito.cli.uninstall.run import Options

    options = Options(
        yes=yes,
        dry_run=dry_run,
        without_operator=without_operator,
        definitions=crds,
        timeout=timeout,
    )
    run(run_uninstall(options, kubeconfig, context))


@app.command()
def provisioner(
    kubeconfig: Annotated[Path | None, typer.Option(help="Outside a cluster: the kubeconfig to use.")] = None,
    context: Annotated[
        str | None,
        typer.Option(help="Outside a cluster: the context, by name. There is no default on purpose."),
    ] = None,
    cloud_provider: Annotated[
        str,
        typer.Option(
            help="existing: nodes that are there already are lent to claims, and given back. aks: agent pools of an "
            "AKS cluster, which the environment describes (docs/aks.md)."
        ),
    ] = "existing",
    existing_selector: ExistingSelector = EXISTING_SELECTOR,
    claim_kinds: ClaimKinds = CLAIM_KINDS,
    aks_options: AksOptions = None,
    launch_timeout: LaunchTimeout = LAUNCH_TIMEOUT,
    registration_timeout: RegistrationTimeout = REGISTRATION_TIMEOUT,
    initialization_timeout: InitializationTimeout = INITIALIZATION_TIMEOUT,
    metrics_bind_address: Annotated[
        str, typer.Option(help='Address of /metrics; "0" turns it off.')
    ] = ":8080",
    health_probe_bind_address: Annotated[
        str, typer.Option(help='Address of /healthz and /readyz; "0" turns it off.')
    ] = ":8081",
    leader_elect: Annotated[
        bool, typer.Option(envvar="LEADER_ELECT", help="Only the holder of the Lease reconciles.")
    ] = False,
    log_format: Annotated[str, typer.Option(envvar="LOG_FORMAT", help="json | human")] = "json",
) -> None:
    """Run the machine controller alone: it makes Machines and NodeClaims real."""
    from kaito.cli.operator.config import ProvisionerConfig
    from kaito.cli.operator.provisioner import run_provisioner

    run(
        run_provisioner(
            ProvisionerConfig(
                kubeconfig=kubeconfig,
                context=context,
                cloud_provider=cloud_provider,
                existing_selector=existing_selector,
                claim_kinds=claim_kinds,
                aks_options=aks_options,
                launch_timeout=launch_timeout,
                registration_timeout=registration_timeout,
                initialization_timeout=initialization_timeout,
                metrics_bind_address=metrics_bind_address,
                health_probe_bind_address=health_probe_bind_address,
                leader_elect=leader_elect,
                log_format=log_format,
            )
        )
    )


@app.command()
def plan(
    file: Annotated[
        list[Path],
        typer.Option(
            "--filename", "-f", help="YAML or JSON file; - reads standard input. May be given several times."
        ),
    ],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace of Workspaces that name none.")
    ] = "default",
    node_provisioner: Annotated[
        str, typer.Option(envvar="NODE_PROVISIONER", help=NODE_PROVISIONER_HELP)
    ] = "machine",
    cloud: Annotated[
        str, typer.Option(envvar="CLOUD_PROVIDER", help="azure | aws | arc: whose machine sizes are named.")
    ] = "azure",
    live: Annotated[
        bool, typer.Option("--live", help="Ask Azure whether the sizes can be had, and for the quota.")
    ] = False,
    location: Annotated[str | None, typer.Option(help="With --live: the region. Default: $LOCATION.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what the operator would make of the Workspaces in a file, without a cluster.

    Exit status: 0 all can be carried out; 1 one cannot, or the file cannot be read.
    """
    from kaito.cli.plan.command import PlanFlags, run_plan

    run(run_plan(PlanFlags(file, namespace, node_provisioner, cloud, location, live, json)))


@app.command()
def quota(
    location: Annotated[str | None, typer.Option(help="Region, such as eastus. Default: $LOCATION.")] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Count the claims of this cluster too. Default: no cluster is asked.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="The same, by the context's name.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how many vCPUs of each GPU family the subscription may still use in a region, and for which models.

    Uses the provisioner's settings in the environment; for your own sign-in run `az login` and set DEPLOYMENT_MODE=cli,
    ARM_SUBSCRIPTION_ID and --location.
    """
    from kaito.cli.quota.command import run_quota

    run(run_quota(location, kubeconfig, context, json=json))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except CliError as error:
        typer.echo(f"kaito: {error}", err=True)
        sys.exit(error.code)
    except (ConfigurationError, TransportError) as error:
        typer.echo(f"kaito: {error}", err=True)
        sys.exit(1)
