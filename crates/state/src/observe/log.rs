//! Sets up tracing. Debug output of other crates is suppressed, because hyper, h2 and rustls would print heads
//! and records. `log_json.rs` formats lines of JSON.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::log_json::JsonLines;
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

/// Like [`init`] with warnings only and without time, for short commands.
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

impl fmt::Debug for Verbosity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verbosity")
    }
}

/// Sends events to standard error, coloured on a terminal if `colour` is set. A second call has no effect.
pub fn init(format: Format, level: Level, colour: bool) -> Verbosity {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(io::stderr)
        // Else it would report a closed standard error on standard error, and panic.
        .log_internal_errors(false);
    let export = TelemetrySwitch::default();
    let records = LogRecords(export.clone());
    let (result, change): (_, ChangeLevel) = match format {
        Format::Text => {
            let builder = builder.with_ansi(colour && io::stderr().is_terminal());
            let builder = builder.with_target(false).with_filter_reloading();
            let handle = builder.reload_handle();
            (
                builder.finish().with(records).try_init(),
                Arc::new(move |level| handle.reload(filter(level)).is_ok()),
            )
        }
        Format::Json => {
            log_panics();
            let builder = builder.event_format(JsonLines).with_filter_reloading();
            let handle = builder.reload_handle();
            (
                builder.finish().with(records).try_init(),
                Arc::new(move |level| handle.reload(filter(level)).is_ok()),
            )
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

fn filter(level: Level) -> EnvFilter {
    EnvFilter::new(format!("error,keyward={}", level.as_str()))
}
