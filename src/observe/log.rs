//! Tracing: how Keyward logs. Other crates' debug output is cut off, because hyper, h2 and rustls
//! would print heads and records there.

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::EnvFilter;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The lowest level shown.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Someone must act now.
    Error,
    /// Someone should act.
    Warn,
    /// Life of the gateway.
    #[default]
    Info,
    /// One line per exchange, and why.
    Debug,
    /// Everything of ours.
    Trace,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// As [`init`] with warnings only and no time: for a command that ends at once.
pub fn init_for_command(colour: bool) {
    let result = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("error,keyward=warn"))
        .with_writer(io::stderr)
        .log_internal_errors(false)
        .with_ansi(colour && io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .try_init();
    if result.is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// Sends events to standard error from now on, coloured on a terminal when `colour` is set. A second
/// call changes nothing.
pub fn init(format: Format, level: Level, colour: bool) {
    let filter = EnvFilter::new(format!("error,keyward={}", level.as_str()));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would tell of a closed standard error there, and panic.
        .log_internal_errors(false);
    let result = match format {
        Format::Text => {
            builder.with_ansi(colour && io::stderr().is_terminal()).with_target(false).try_init()
        }
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if result.is_err() {
        tracing::debug!("logging was set up before");
    }
}
