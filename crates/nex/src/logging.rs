//! What goes to standard error besides results and errors, for who asked for it.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use crate::{cli::global::LogLevel, context::Context};

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
        lines.json().try_init()
    } else {
        lines.try_init()
    };
    result.ok();
}
