"""What is worth taking from kube-rs, kopf and the sample controller."""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

_KR = "kube-rs "

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        _KR + "scheduler_dedupe_should_keep_earlier_item", "Of two times for one key the earlier counts."
    ),
    Behaviour(_KR + "scheduler_dedupe_should_replace_later_item", "An earlier time replaces a later one."),
    Behaviour(
        _KR + "scheduler_should_allow_rescheduling_emitted_item",
        "A key that was handed out can be queued again.",
    ),
    Behaviour(
        _KR + "scheduler_pending_message_should_not_block_head_of_line",
        "A held key that is due again never blocks the others.",
    ),
    Behaviour(
        _KR + "runner_should_never_run_two_instances_at_once", "One key is never reconciled twice at a time."
    ),
    Behaviour(
        _KR + "runner_should_respect_max_concurrent_executions", "No more reconciles at a time than workers."
    ),
    Behaviour(_KR + "runner_should_wait_for_readiness", "Nothing is reconciled before the caches are ready."),
    Behaviour(
        _KR + "runner_should_dedupe_while_waiting_for_readiness", "Adds before the start are one reconcile."
    ),
    Behaviour(_KR + "runner_should_report_readiness_errors", "Caches that do not become ready are an error."),
    Behaviour(
        _KR + "applier_must_not_deadlock_if_reschedule_buffer_fills",
        "A storm of keys that requeue themselves deadlocks nothing and starves nobody.",
    ),
    Behaviour(
        _KR + "predicate_filtering_should_handle_recreated_resources_with_same_generation",
        "An object made anew under its name passes, though its generation is the same.",
    ),
    Behaviour(
        _KR + "predicate_cache_ttl_evicts_entries",
        "What a predicate remembers of objects expires.",
        "Predicates remember nothing: they are given the old and the new object.",
    ),
    Behaviour(
        "kopf test_watchevent_demultiplexing",
        "Events of one object are handled in order, those of others beside them.",
    ),
    Behaviour(
        "kopf daemon termination",
        "Background tasks per object end in one of several ways.",
        "There are no daemons: what should go on is a reconcile that asks to be called again.",
    ),
    Behaviour("sample-controller CreatesDeployment", "A missing child is made."),
    Behaviour("sample-controller DoNothing", "Where all is well nothing is written."),
    Behaviour("sample-controller UpdateDeployment", "A child that differs is brought back."),
    Behaviour(
        "sample-controller NotControlledByUs", "Somebody else's object is left alone, and that is said."
    ),
)
