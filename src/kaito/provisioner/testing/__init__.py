"""A faithful fake of Azure for tests of provisioners, of this project or any other.

`FakeArm` is the cloud as a state machine over a clock. `server.ArmServer` serves it over HTTP; `azure.MemoryTransport`
puts it into the Azure SDK without sockets, and alone needs the SDK. `FakeKubelets` lets its machines join a cluster.
`python -m kaito.provisioner.testing` runs all of it as a process.
"""

from kaito.provisioner.testing.arm import Call, FakeArm
from kaito.provisioner.testing.kubelets import FakeKubelets
from kaito.provisioner.testing.messages import ArmRequest, ConnectionDropped, ErrorDetail, Recorded, Reply
from kaito.provisioner.testing.nodes import Boot
from kaito.provisioner.testing.server import ArmServer
from kaito.provisioner.testing.settings import AZURE_ASYNC, LOCATION, Settings, Style
from kaito.provisioner.testing.sizes import Size
from kaito.provisioner.testing.state import Operation, Place, Pool, VirtualMachine

__all__ = [
    "AZURE_ASYNC",
    "LOCATION",
    "ArmRequest",
    "ArmServer",
    "Boot",
    "Call",
    "ConnectionDropped",
    "ErrorDetail",
    "FakeArm",
    "FakeKubelets",
    "Operation",
    "Place",
    "Pool",
    "Recorded",
    "Reply",
    "Settings",
    "Size",
    "Style",
    "VirtualMachine",
]
