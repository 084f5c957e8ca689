//! Flags that every command takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nex_protocol::{GoDuration, Namespace};

use super::go::GoArgs;

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct GlobalArgs {
    /// The tenant [env: NEX_NAMESPACE] [default: `default` for what deploys, `system`, which sees
    /// all, for what looks]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<Namespace>,
    /// A file of flags, beside those in the usual places: {"node_name":"n1","nats":{"user":"ann"}}
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON, errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log to standard error from this level on
    #[arg(
        short = 'l',
        long = "logger.level",
        global = true,
        value_name = "LEVEL"
    )]
    pub(crate) log_level: Option<LogLevel>,
    #[command(flatten)]
    pub(crate) nats: NatsArgs,
    #[command(flatten)]
    pub(crate) go: GoArgs,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// As `error`; a word of the Go Nex
    #[value(hide = true)]
    Fatal,
    /// A person must act
    Error,
    /// It recovered, but look
    Warn,
    /// Life cycles
    Info,
    /// Each request
    Debug,
    /// Everything
    Trace,
}

/// How NATS is found and who we are there.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "NATS Configuration")]
pub(crate) struct NatsArgs {
    /// A context of the NATS CLI [env: NATS_CONTEXT]
    #[arg(
        long = "nats.context",
        alias = "context",
        global = true,
        value_name = "NAME"
    )]
    pub(crate) context: Option<String>,
    /// Servers [env: NATS_URL] [default: a running `nex up`, else nats://127.0.0.1:4222]
    #[arg(
        short = 's',
        long = "nats.servers",
        alias = "server",
        global = true,
        value_name = "URL",
        value_delimiter = ','
    )]
    pub(crate) servers: Vec<String>,
    /// A credentials file [env: NATS_CREDS]
    #[arg(
        long = "nats.creds-file",
        alias = "creds",
        global = true,
        value_name = "FILE"
    )]
    pub(crate) creds: Option<PathBuf>,
    /// The public nkey that belongs to the seed
    #[arg(
        long = "nats.nkey",
        global = true,
        value_name = "KEY",
        requires = "seed"
    )]
    pub(crate) nkey: Option<String>,
    /// The seed of an nkey or of a JWT [env: NATS_NKEY, a file with the seed]
    #[arg(
        long = "nats.seed",
        global = true,
        value_name = "SEED",
        hide_env_values = true
    )]
    pub(crate) seed: Option<String>,
    /// A user JWT
    #[arg(
        long = "nats.jwt",
        global = true,
        value_name = "JWT",
        requires = "seed"
    )]
    pub(crate) jwt: Option<String>,
    /// A user name; without a password it is a token [env: NATS_USER]
    #[arg(long = "nats.user", alias = "user", global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The user's password [env: NATS_PASSWORD]
    #[arg(
        long = "nats.password",
        alias = "password",
        global = true,
        value_name = "TEXT"
    )]
    pub(crate) password: Option<String>,
    /// A client certificate [env: NATS_CERT]
    #[arg(
        long = "nats.tlscert",
        alias = "tlscert",
        global = true,
        value_name = "FILE",
        requires = "tlskey"
    )]
    pub(crate) tlscert: Option<PathBuf>,
    /// The certificate's key [env: NATS_KEY]
    #[arg(
        long = "nats.tlskey",
        alias = "tlskey",
        global = true,
        value_name = "FILE",
        requires = "tlscert"
    )]
    pub(crate) tlskey: Option<PathBuf>,
    /// The CA of the servers [env: NATS_CA]
    #[arg(
        long = "nats.tlsca",
        alias = "tlsca",
        global = true,
        value_name = "FILE"
    )]
    pub(crate) tlsca: Option<PathBuf>,
    /// Begin with the TLS handshake, before the server's first line
    #[arg(long = "nats.tlsfirst", alias = "tlsfirst", global = true)]
    pub(crate) tlsfirst: bool,
    /// The name of the connection in the server's lists
    #[arg(long = "nats.conn-name", global = true, value_name = "NAME")]
    pub(crate) conn_name: Option<String>,
    /// How long `req` and `node list` wait for an answer [default: 5s; 2s, 10s while no node answers]
    #[arg(
        long = "nats.timeout",
        alias = "timeout",
        global = true,
        value_name = "DURATION"
    )]
    pub(crate) timeout: Option<GoDuration>,
}
