"""Translates the client library's advice into that of the command: subcommands and flags instead of calls."""

from statewise.client import (
    CheckpointExists,
    CheckpointNotFound,
    InvalidSnapshot,
    LimitReached,
    ModelNotFound,
    NotImplementedByServer,
    NotStreamable,
    PositionMismatch,
    SessionExists,
    SessionExpired,
    SessionLost,
    SessionMoved,
    SessionNotFound,
    StatewiseError,
    Timeout,
    Unauthenticated,
)

_ADVICE: dict[type[StatewiseError], str] = {
    CheckpointExists: "choose another name for the checkpoint",
    CheckpointNotFound: "`statewise checkpoints` lists those of a session",
    InvalidSnapshot: "only unaltered snapshots, of the same owner and key, can be restored",
    LimitReached: "the limits are settings of the server",
    ModelNotFound: "`statewise models` lists what is served",
    NotImplementedByServer: "the server runs another release than this command",
    NotStreamable: "`statewise score` runs it on whole sequences",
    PositionMismatch: "the same command continues where the session stands",
    SessionExists: "choose another --session",
    SessionExpired: "feed a new one from the start, or step more often than the server's idle_timeout_s",
    SessionLost: "feed it again from the start",
    SessionMoved: "another program has taken it over",
    SessionNotFound: "`statewise sessions` lists those that are open",
    Timeout: "the server may be busy: `statewise top` shows what it does",
    Unauthenticated: "pass --token-file, or --tls-certificate with --tls-key",
}

_CALLS = {
    "tls=True or tls=Tls(ca=…) speaks it": "--tls or --tls-ca speaks it",
    "tls=Tls(ca=…)": "--tls-ca",
    "tls=Tls(server_name=…)": "--tls-server-name",
    "tls=Tls(certificate=…, key=…)": "--tls-certificate and --tls-key",
    "leave tls= out": "leave --tls out",
    "use generate()": "use `statewise generate`",
    "predict() runs it, step() of a session streams it": (
        "`statewise score` runs it on whole sequences, `statewise stream` steps a session"
    ),
    "give them as columns=": "give them as --columns",
    "with_state: ": "--state: ",
    "columns= chooses": "--columns chooses",
    'sequence="" makes': "--sequence '' makes",
    "`sequence` and `columns` name": "--sequence and --columns name",
}
"""Calls and arguments that messages of the client library name, and what makes them in the command."""


def in_words_of_command(error: Exception) -> str:
    """Returns the message of an error, with advice that a user of the command can follow."""
    text = str(error)
    for kind, advice in _ADVICE.items():
        text = text.replace(kind.advice, advice) if kind.advice else text
    for call, subcommand in _CALLS.items():
        text = text.replace(call, subcommand)
    return text
