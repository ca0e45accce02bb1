//! Tracing: how Keyward logs. Other crates' debug output is cut off, because hyper, h2 and rustls
//! would print heads and records there.

use std::fmt;
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

/// Changes the level of a log that is being written.
pub struct Verbosity(Box<dyn Fn(Level) -> bool + Send + Sync>);

impl Verbosity {
    /// Shows `level` and what is more urgent from now on.
    pub fn set(&self, level: Level) {
        if !(self.0)(level) {
            tracing::warn!("the log's level cannot be changed");
        }
    }
}

impl fmt::Debug for Verbosity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verbosity")
    }
}

/// Sends events to standard error from now on, coloured on a terminal when `colour` is set. A second
/// call changes nothing.
pub fn init(format: Format, level: Level, colour: bool) -> Verbosity {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(io::stderr)
        // It would tell of a closed standard error there, and panic.
        .log_internal_errors(false);
    let (result, verbosity): (_, Box<dyn Fn(Level) -> bool + Send + Sync>) = match format {
        Format::Text => {
            let builder = builder.with_ansi(colour && io::stderr().is_terminal());
            let builder = builder.with_target(false).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |level| handle.reload(filter(level)).is_ok()))
        }
        Format::Json => {
            // Without the target of `tracing`, the module: members of an event stand beside it, and
            // ours of that name is the host.
            let builder = builder.json().flatten_event(true).with_target(false);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |level| handle.reload(filter(level)).is_ok()))
        }
    };
    if result.is_err() {
        tracing::debug!("logging was set up before");
    }
    Verbosity(verbosity)
}

fn filter(level: Level) -> EnvFilter {
    EnvFilter::new(format!("error,keyward={}", level.as_str()))
}
