//! Sets up tracing. Debug output of other crates is suppressed, because hyper, h2 and rustls would print heads
//! and records. `log_json.rs` formats lines of JSON.

use std::fmt::{Debug, Formatter};
use std::io::{self, IsTerminal};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload};

use super::log_json::JsonLines;
use super::log_repeats::RepeatLimit;
use super::telemetry::{LogRecords, TelemetrySwitch};

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Human-readable text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The lowest level that is shown.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Immediate action is required.
    Error,
    /// Action is recommended.
    Warn,
    /// Lifecycle of the gateway.
    #[default]
    Info,
    /// One line per exchange, with the reason.
    Debug,
    /// All output of Keyward.
    Trace,
}

impl Level {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Like [`init`] with warnings only and without time, for short commands.
pub fn init_for_command(colour: bool) {
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .log_internal_errors(false)
        .with_ansi(colour && io::stderr().is_terminal())
        .with_target(false)
        .without_time();
    let result = tracing_subscriber::registry().with(targets(Level::Warn)).with(lines).try_init();
    if result.is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// Changes the level of a running log, and whether it is exported.
#[derive(Clone)]
pub struct Verbosity {
    change: ChangeLevel,
    export: TelemetrySwitch,
}

type ChangeLevel = Arc<dyn Fn(Level) -> bool + Send + Sync>;

impl Verbosity {
    /// Shows `level` and more severe ones from now on.
    pub fn set(&self, level: Level) {
        if !(self.change)(level) {
            tracing::warn!("the log's level cannot be changed");
        }
    }

    /// Receives the log's records while it is set.
    pub fn export(&self) -> &TelemetrySwitch {
        &self.export
    }
}

impl Debug for Verbosity {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verbosity")
    }
}

/// Sends events to standard error, coloured on a terminal if `colour` is set. A second call has no effect.
pub fn init(format: Format, level: Level, colour: bool) -> Verbosity {
    let (filter, handle) = reload::Layer::new(targets(level));
    let change = Arc::new(move |level| handle.reload(targets(level)).is_ok());
    let export = TelemetrySwitch::default();
    let records = LogRecords(export.clone());
    // Else it would report a closed standard error on standard error, and panic.
    let lines = fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(filter).with(RepeatLimit::default());
    let result = match format {
        Format::Text => {
            let lines = lines.with_ansi(colour && io::stderr().is_terminal()).with_target(false);
            registry.with(lines).with(records).try_init()
        }
        Format::Json => {
            log_panics();
            registry.with(lines.event_format(JsonLines)).with(records).try_init()
        }
    };
    if result.is_err() {
        tracing::debug!("logging was set up before");
    }
    Verbosity { change, export }
}

/// Panics are lines of JSON too. Like the usual message, a line has the place and the text.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("a panic");
        tracing::error!(id = "panic", at, "{text}");
    }));
}

/// Errors of all crates, and what Keyward's own log from `level` on.
fn targets(level: Level) -> Targets {
    Targets::new().with_default(LevelFilter::ERROR).with_target("keyward", level.filter())
}
