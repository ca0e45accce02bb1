//! OpenTelemetry: spans of finished exchanges and records of the log, in bounded queues. Nothing here waits or sends:
//! `telemetry.rs` of `keyward-app` sends batches by OTLP. While telemetry is off, a request costs one read of [`TelemetrySwitch`].

mod export;
mod log_records;
mod span;
mod trace_context;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, Receiver, Sender};

pub use self::export::{Exportable, LogRecord, RejectedItems, Resource, Span};
pub(super) use self::log_records::LogRecords;
pub use self::span::{ExchangeKind, ExchangeTrace, FinishedExchange, OutgoingTrace};
use super::metrics::Metrics;
pub use super::metrics::Signal;
pub use span::TelemetrySettings;

/// The queues of an exporter.
#[derive(Debug)]
pub struct Telemetry {
    settings: TelemetrySettings,
    spans: Option<Sender<Span>>,
    logs: Option<Sender<LogRecord>>,
    metrics: Arc<Metrics>,
    failure: Mutex<Option<ExportFailure>>,
}

/// The receivers of the queues; absent for a signal that is off.
#[derive(Debug)]
pub struct Queues {
    pub spans: Option<Receiver<Span>>,
    pub logs: Option<Receiver<LogRecord>>,
}

/// The last failed export.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExportFailure {
    pub at: Timestamp,
    /// The reason, for people.
    pub why: String,
}

/// The telemetry in force, if any; cheap to clone. A reload may replace it.
#[derive(Clone, Debug, Default)]
pub struct TelemetrySwitch(Arc<ArcSwapOption<Telemetry>>);

impl Telemetry {
    pub fn open(settings: TelemetrySettings, metrics: Arc<Metrics>) -> (Arc<Self>, Queues) {
        let (spans, spans_queue) = mpsc::channel(settings.queue_max);
        let (logs, logs_queue) = mpsc::channel(settings.queue_max);
        let queues = Queues {
            spans: settings.traces.then_some(spans_queue),
            logs: settings.logs.then_some(logs_queue),
        };
        let telemetry = Self {
            spans: settings.traces.then_some(spans),
            logs: settings.logs.then_some(logs),
            settings,
            metrics,
            failure: Mutex::default(),
        };
        (Arc::new(telemetry), queues)
    }

    pub fn settings(&self) -> &TelemetrySettings {
        &self.settings
    }

    /// The last failed export; `None` since an export has succeeded.
    pub fn failure(&self) -> Option<ExportFailure> {
        self.failure.lock().clone()
    }

    /// Notes the result of an export.
    pub fn set_failure(&self, failure: Option<ExportFailure>) {
        *self.failure.lock() = failure;
    }

    /// Queues the spans of one exchange, all or none.
    fn queue_spans(&self, spans: Vec<Span>) {
        let Some(queue) = &self.spans else { return };
        match queue.try_reserve_many(spans.len()) {
            Ok(slots) => slots.zip(spans).for_each(|(slot, span)| slot.send(span)),
            Err(_) => self.metrics.telemetry.dropped(Signal::Traces, spans.len()),
        }
    }
}

impl TelemetrySwitch {
    /// Uses this telemetry from now on.
    pub fn set(&self, telemetry: Option<Arc<Telemetry>>) {
        self.0.store(telemetry);
    }

    /// The telemetry in force.
    pub fn get(&self) -> Option<Arc<Telemetry>> {
        self.0.load_full()
    }

    /// The trace of an exchange that begins; `None` while exchanges leave no spans.
    pub fn begin_trace(&self) -> Option<Box<ExchangeTrace>> {
        let telemetry = self.0.load();
        let telemetry = telemetry.as_ref().filter(|telemetry| telemetry.spans.is_some())?;
        Some(Box::new(ExchangeTrace::begin(&telemetry.settings)))
    }

    /// Queues the spans of a finished exchange.
    pub fn finish_trace(&self, trace: ExchangeTrace, exchange: &FinishedExchange<'_>) {
        if !trace.is_sampled() {
            return;
        }
        // Telemetry may have been turned off meanwhile.
        if let Some(telemetry) = &*self.0.load() {
            telemetry.queue_spans(trace.into_spans(exchange));
        }
    }

    /// Queues a record of the log.
    fn log(&self, record: impl FnOnce() -> LogRecord) {
        let telemetry = self.0.load();
        let Some(telemetry) = &*telemetry else { return };
        let Some(queue) = &telemetry.logs else { return };
        match queue.try_reserve() {
            Ok(slot) => slot.send(record()),
            Err(_) => telemetry.metrics.telemetry.dropped(Signal::Logs, 1),
        }
    }
}
