"""The tables, as the newest migration leaves them.  A test holds the two against each other.

Columns named `*_wall` are seconds since the epoch, for people and certificates; a run has a clock of its own.
JSON stands in text columns in its canonical form (`canonical.py`).
"""

import sqlalchemy as sa

# Names of constraints are fixed, so that a later migration can address them on every database.
metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=True)


def _of_run() -> sa.Column[str]:
    return sa.Column("run", sa.Text, sa.ForeignKey("runs.id"), primary_key=True)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, primary_key=True, autoincrement=False)


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _wall(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def _perhaps(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=True)


meta = sa.Table("meta", metadata, _key("key"), _text("value"))

clients = sa.Table(
    "clients",
    metadata,
    _key("name"),
    sa.Column("number", sa.Integer, nullable=False, unique=True),
    _text("state"),  # "enrolled" or "revoked"
    _wall("enrolled_wall"),
    _perhaps("revoked_wall"),  # of the latest revocation; stays when the client is enrolled again
    _text("revoke_reason"),
    _text("signing_certificate"),
    _text("signing_spki_sha256"),
    _text("tls_serial"),  # of the latest certificate
    _perhaps("tls_not_after"),
    _text("software"),
    _perhaps("last_seen_wall"),
)

certificates = sa.Table(
    "certificates",
    metadata,
    _key("serial"),
    _text("kind"),
    sa.Column("name", sa.Text, nullable=False, index=True),
    _wall("issued_wall"),
    _wall("not_after"),
    _perhaps("revoked_wall"),
)

tokens = sa.Table(
    "tokens",
    metadata,
    _key("serial"),  # of the bootstrap certificate
    sa.Column("name", sa.Text, nullable=False, index=True),  # of the client, or the prefix
    sa.Column("uses", sa.Integer, nullable=False),
    _count("used"),
    sa.Column("numbered", sa.Boolean, nullable=False),  # `name` is a prefix
    _wall("created_wall"),
    _wall("not_after"),
    _text("created_by"),
    _perhaps("revoked_wall"),
)

redemptions = sa.Table(
    "redemptions",
    metadata,
    sa.Column("serial", sa.Text, sa.ForeignKey("tokens.serial"), primary_key=True),
    _key("spki_sha256"),  # of the signing key: who asks again after a lost reply is recognised
    sa.Column("client", sa.Text, sa.ForeignKey("clients.name"), nullable=False),
    _wall("wall"),
)

manifests = sa.Table(
    "manifests",
    metadata,
    _key("sha256"),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("model_bytes", sa.BigInteger, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    _key("id"),
    sa.Column("number", sa.Integer, nullable=False, unique=True),
    sa.Column("plan", sa.LargeBinary, nullable=False),  # canonical bytes
    _text("plan_sha256"),
    sa.Column("task", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    _text("reason"),
    _text("machine"),  # the round machine's Run, encoded
    _wall("machine_now"),
    sa.Column("round", sa.Integer, nullable=False),
    _text("model_sha256"),
    _text("started_by"),
    _wall("created_wall"),
    _wall("updated_wall"),
    _perhaps("ended_wall"),
    sa.Column("manifest", sa.Text, nullable=True),
    _count("next_effect"),
    _text("updated_by"),  # the transaction that wrote last
    _text("lease_owner"),  # for replicas: empty while there is one coordinator
    _perhaps("lease_until"),
)

effects = sa.Table(
    "effects",
    metadata,
    _of_run(),
    _number("seq"),
    _text("body"),
)

rounds = sa.Table(
    "rounds",
    metadata,
    _of_run(),
    _number("round"),
    _count("attempts"),
    _text("cohort", "[]"),
    _text("survivors", "[]"),
    _text("reasons", "[]"),  # why members of the cohort do not count
    _text("failures", "[]"),  # why attempts came to nothing
    sa.Column("seconds", sa.Double, nullable=False, server_default="0"),
    _text("metrics", "{}"),
    _count("bytes_in"),
    _count("bytes_out"),
    _text("model_sha256"),
    _perhaps("published_wall"),
)

models = sa.Table(
    "models",
    metadata,
    _of_run(),
    _number("round"),
    _key("vector"),  # empty: the model itself; else the name of a vector of the strategy's state
    sa.Column("sha256", sa.Text, nullable=False, index=True),
    _wall("created_wall"),
    _perhaps("deleted_wall"),
)

updates = sa.Table(
    "updates",
    metadata,
    _of_run(),
    _number("round"),
    _number("attempt"),
    _key("client"),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    _wall("received_wall"),
)

published = sa.Table(
    "published",
    metadata,
    _of_run(),
    _number("round"),
    sa.Column("attempt", sa.Integer, nullable=False),
    _text("what"),  # "train" or "evaluate"
    _text("survivors"),  # JSON: names, sorted
    sa.Column("root", sa.Text, nullable=False),  # of the tree over their updates
    sa.Column("model_sha256", sa.Text, nullable=False),
    sa.Column("audit_sha256", sa.Text, nullable=False),  # head of the audit log then
    _wall("wall"),
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column(
        "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    sa.Column("run", sa.Text, sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # encrypted
    sa.Index("ix_ledger_run_round", "run", "round"),
)

audit = sa.Table(
    "audit",
    metadata,
    _number("seq"),
    _wall("wall"),
    _text("kind"),
    _text("run"),  # empty: of the federation
    _text("subject"),  # whom it is about
    _text("body"),
    _text("previous"),
    _text("hash"),
)
