"""Leader election: client-go's `tools/leaderelection`."""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

_CG = "client-go leaderelection "
_TRY = _CG + "TestTryAcquireOrRenew: "
_COORDINATED = (
    "Coordinated election has an external controller choose the leader by versions; here whoever comes first "
    "leads."
)

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(_TRY + "no object", "Without a lease one is created and held at once, with no transitions."),
    Behaviour(_TRY + "empty record", "A lease without a record is taken at once."),
    Behaviour(
        _TRY + "held, run out by its own duration",
        "A foreign lease ends after the duration that its record states, not ours, and counts a transition.",
    ),
    Behaviour(
        _TRY + "held, seen long ago",
        "What counts is when we saw the record change by our clock, not the times in it.",
    ),
    Behaviour(_TRY + "empty holder, seen", "A lease that was given back is taken at once."),
    Behaviour(_TRY + "held, seen", "A foreign lease that is renewed is refused and its holder reported."),
    Behaviour(_TRY + "renew", "Renewing keeps the acquire time and the number of transitions."),
    Behaviour(_CG + "TestReleaseLease: no object", "Releasing where no lease is does nothing."),
    Behaviour(
        _CG + "TestReleaseLease: ours", "Releasing empties the holder, for one second, transitions kept."
    ),
    Behaviour(_CG + "TestReleaseLease: not ours", "Somebody else's lease is not touched."),
    Behaviour(
        _CG + "TestReleaseOnCancellation",
        "A leader cancelled while reading or writing gives the lease back and is told that it led and stopped.",
    ),
    Behaviour(_CG + "TestFastPathLeaderElection", "Renewals write without reading first."),
    Behaviour(
        _CG + "TestFastPathLeaderElection: failure", "After a failed write the lease is read, then written."
    ),
    Behaviour(
        _CG + "TestLeaderElectionConfigValidation", "Times that leave no room for one another are refused."
    ),
    Behaviour(_CG + "TestCheckMethodRace", "The health check passes for one who does not lead."),
    Behaviour(
        _CG + "HealthChecker", "The health check fails when the lease ran out longer ago than the tolerance."
    ),
    Behaviour(
        _CG + "Lease round trip", "Labels, fields that we do not know and missing records survive a renewal."
    ),
    Behaviour(
        _CG + "LeaseCandidate create and ack", "A candidate announces itself and answers pings.", _COORDINATED
    ),
)
