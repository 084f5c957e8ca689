//! What goes to standard error besides results and errors, for who asked for it.

use std::io;

use tracing::{debug, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{cli::global::LogLevel, context::Context};

/// The NATS client's messages below this level have whole payloads and addresses in them, and so
/// credentials and passwords.
const NATS_CLIENT_LEVEL: LevelFilter = LevelFilter::INFO;

/// What is logged from `level` on.
fn levels(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level)
        .with_target("async_nats", level.min(NATS_CLIENT_LEVEL))
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Fatal | Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Sends logs to standard error from the level on that was asked for, else from `default`; as JSON
/// where the output is JSON. To be called once.
pub(crate) fn init(context: &Context, default: LevelFilter) {
    let level = context.global.log_level.map_or(default, LogLevel::filter);
    if level == LevelFilter::OFF {
        return;
    }
    let env = &context.env;
    let lines = fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_target(level >= LevelFilter::DEBUG)
        .with_ansi(env.wants_colour(env.terminals.stderr));
    // Somebody who has set a subscriber before keeps it.
    let result = if context.global.json {
        lines.json().finish().with(levels(level)).try_init()
    } else {
        lines.finish().with(levels(level)).try_init()
    };
    result.ok();
    for remark in &context.settings.remarks {
        debug!("{remark}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn the_nats_client_never_logs_what_it_sends() {
        let most = levels(LevelFilter::TRACE);

        assert!(most.would_enable("nex_node::control", &Level::TRACE));
        assert!(most.would_enable("async_nats", &Level::INFO));
        assert!(!most.would_enable("async_nats::connector", &Level::DEBUG));
        assert!(!most.would_enable("async_nats::connection", &Level::TRACE));
        assert!(!levels(LevelFilter::WARN).would_enable("async_nats", &Level::INFO));
    }
}
