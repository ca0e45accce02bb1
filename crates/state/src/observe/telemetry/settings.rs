//! Settings of telemetry: the recorded data of exchanges and of the log.

/// The recorded signals, and the limits of recording.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetrySettings {
    /// The collector, for people.
    pub endpoint: String,
    /// Whether exchanges leave spans.
    pub traces: bool,
    /// Whether the log is exported.
    pub logs: bool,
    /// The share of recorded traces, among the traces that begin in this gateway.
    pub sample: f64,
    /// Whether upstreams get the trace's context.
    pub propagate: bool,
    /// How many spans, and how many log records, may wait.
    pub queue_max: usize,
}
