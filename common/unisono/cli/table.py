"""Every command, its one line of help, and where its function lives.

Strings only: `unisono --help` reads this table and imports none of the modules it names, so it stays fast
however heavy a command is; and the command line can never depend on the parts (import-linter holds that).
"""

from dataclasses import dataclass

ONE_MACHINE, FEDERATION, SITE, RUNS, MODELS = (
    "On one machine",
    "A federation and its coordinator",
    "A site",
    "Runs",
    "Models",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """`words` is how it is called ("run start"); `target` is "module:function"."""

    words: str
    help: str
    target: str
    panel: str


GROUPS: dict[str, tuple[str, str]] = {
    "token": ("Join tokens: how a client gets in.", FEDERATION),
    "audit": ("Audit logs, of a coordinator or of a site.", FEDERATION),
    "plan": ("Plans: what a run is to do.", RUNS),
    "run": ("Runs: start, look at, watch, stop.", RUNS),
    "model": ("Global models: list, pull.", MODELS),
    "task": ("Tasks: the user's own model and data.", SITE),
}

_RUNS, _MODELS, _MEMBERS = (
    "unisono.client.admin.run_commands",
    "unisono.client.admin.model_commands",
    "unisono.client.admin.member_commands",
)
_APPROVALS = "unisono.client.admin.approval_commands"
_AUDIT = "unisono.client.admin.audit_commands"
_RECEIPTS = "unisono.client.admin.receipt_commands"
_PLANS, _TASKS = "unisono.client.admin.plan_commands", "unisono.client.admin.task_commands"

TABLE: tuple[Entry, ...] = (
    Entry(
        "demo", "See it all at once: a federation on this machine.", "unisono.demo.commands:demo", ONE_MACHINE
    ),
    Entry("version", "Print the version.", "unisono.cli.app:version", ONE_MACHINE),
    Entry("init", "Make a federation: its CA and its folders.", "unisono.server.commands:init", FEDERATION),
    Entry("serve", "Run the coordinator.", "unisono.server.commands:serve", FEDERATION),
    Entry("token create", "Make a one-time join token.", f"{_MEMBERS}:create_token", FEDERATION),
    Entry("token list", "List tokens that can still be used.", f"{_MEMBERS}:list_tokens", FEDERATION),
    Entry("clients", "List the clients and how they are.", f"{_MEMBERS}:clients", FEDERATION),
    Entry("revoke", "Shut a client or an operator out, at once, for good.", f"{_MEMBERS}:revoke", FEDERATION),
    Entry("health", "Ask the coordinator how it is.", "unisono.cli.health:health", FEDERATION),
    Entry("audit verify", "Check an audit log: is it whole?", f"{_AUDIT}:verify", FEDERATION),
    Entry("audit show", "Show the last lines of an audit log.", f"{_AUDIT}:show", FEDERATION),
    Entry(
        "doctor",
        "Look for what is wrong, at a site or at the coordinator.",
        "unisono.cli.doctor:doctor",
        SITE,
    ),
    Entry("join", "Join a federation with a token.", "unisono.client.commands:join", SITE),
    Entry("client", "Take part in runs.", "unisono.client.commands:client", SITE),
    Entry("client receipts", "List what left this site, and where it counts.", f"{_RECEIPTS}:receipts", SITE),
    Entry("client receipts verify", "Check every receipt, offline.", f"{_RECEIPTS}:verify", SITE),
    Entry("client plans", "List the plans that were asked here.", f"{_APPROVALS}:plans", SITE),
    Entry("client plans show", "Show a plan in words, with digests to compare.", f"{_APPROVALS}:show", SITE),
    Entry("client plans approve", "Let this site take part in a plan.", f"{_APPROVALS}:approve", SITE),
    Entry("client plans reject", "Keep this site out of a plan.", f"{_APPROVALS}:reject", SITE),
    Entry("task check", "Try everything a task does, once.", f"{_TASKS}:check", SITE),
    Entry("plan check", "Validate a plan and forecast its cost.", f"{_PLANS}:check", RUNS),
    Entry("run start", "Start a run of a plan.", f"{_RUNS}:start", RUNS),
    Entry("run list", "List the runs.", f"{_RUNS}:list_all", RUNS),
    Entry("run show", "Show a run round by round.", f"{_RUNS}:show", RUNS),
    Entry("run watch", "Watch a run until it ends.", f"{_RUNS}:watch", RUNS),
    Entry("run stop", "Stop a run; its last model stays.", f"{_RUNS}:stop", RUNS),
    Entry("model list", "List the models of a run.", f"{_MODELS}:list_all", MODELS),
    Entry("model pull", "Write a model as a safetensors file.", f"{_MODELS}:pull", MODELS),
    Entry("predict", "Predict with a model and a task's data.", f"{_TASKS}:predict", MODELS),
)
