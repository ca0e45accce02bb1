//! Exports spans and the log by OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>): background jobs
//! that take batches from the queues of `observe::telemetry`. They run only while telemetry is configured, and no
//! request waits for them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::error::{AppError, refused};
use super::plan::problem::{caused_by, problem};
use crate::config::{Config, Otlp};
use keyward_base::time;
use keyward_base::time::Clock;
use keyward_net::call::{AllowedServers, Bounds, CallError, HttpClient};
use keyward_rules::inject::write::secret_field;
use keyward_rules::provider::document::{Problem, key_of};
use keyward_state::observe::log::Verbosity;
use keyward_state::observe::metrics::Metrics;
use keyward_state::observe::telemetry::{
    ExportFailure, Exportable, Queues, Resource, Telemetry, TelemetrySettings, TelemetrySwitch,
};

/// What is left in the queues is sent within this time when the gateway stops.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// The pause before a batch is sent again; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A batch that was not accepted within this time is dropped.
const RETRY_WITHIN: Duration = Duration::from_secs(60);

/// The pause between two warnings of failed exports.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Most bytes read of a collector's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Characters that a warning quotes of a collector's answer.
const QUOTED_CHARS_MAX: usize = 200;

/// A collector, and what it gets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Collector {
    settings: TelemetrySettings,
    headers: HeaderMap,
    resource: Resource,
    timeout: Duration,
    delay: Duration,
    batch_max: usize,
}

/// Starts and ends the jobs when the configuration says so.
pub struct Exports {
    /// The switch of the data path.
    switch: TelemetrySwitch,
    /// The log's; a process that is not served leaves the log alone.
    log: OnceLock<TelemetrySwitch>,
    client: Arc<HttpClient>,
    metrics: Arc<Metrics>,
    clock: Clock,
    running: Mutex<Option<RunningExport>>,
}

/// The jobs of one collector.
struct RunningExport {
    collector: Collector,
    close: watch::Sender<bool>,
    jobs: JoinSet<()>,
}

/// What the jobs of both signals share.
struct Exporter {
    collector: Collector,
    telemetry: Arc<Telemetry>,
    client: Arc<HttpClient>,
    metrics: Arc<Metrics>,
    clock: Clock,
    warned: Mutex<Option<Instant>>,
}

/// The job of one signal.
struct ExportJob<T> {
    exporter: Arc<Exporter>,
    queue: Receiver<T>,
    close: watch::Receiver<bool>,
}

/// The result of one request.
enum ExportAttempt {
    /// It was accepted, except for this number of items.
    Accepted(usize),
    /// A retry is useless.
    Refused(String),
    /// It may be sent again, at the earliest after the given time.
    Later(String, Option<Duration>),
}

impl Collector {
    /// The collector of the configuration. Reads the values of its header fields, which blocks.
    ///
    /// # Errors
    /// All values that cannot be read or sent.
    pub(super) fn load(config: &Config) -> Result<Option<Self>, Vec<Problem>> {
        let Some(otlp) = &config.telemetry else { return Ok(None) };
        let (mut headers, mut problems) = (HeaderMap::new(), Vec::new());
        let hidden = config.secret_variables();
        for (name, source) in &otlp.headers {
            let value = source.load(&config.environment, &hidden);
            let place = || key_of(&key_of(&otlp.place, "headers"), name.as_str());
            match value.as_ref().map(secret_field) {
                Ok(Ok(value)) => drop(headers.insert(name, value)),
                Ok(Err(_)) => {
                    problems.push(problem(&place(), "it cannot be sent in a header field", ""));
                }
                Err(error) => {
                    let told = problem(&place(), error.to_string(), "");
                    problems.push(caused_by(error, told));
                }
            }
        }
        if problems.is_empty() { Ok(Some(Self::of(otlp, headers))) } else { Err(problems) }
    }

    fn of(otlp: &Otlp, headers: HeaderMap) -> Self {
        let more = otlp.resource_attributes.iter().map(|(key, value)| (&**key, &**value));
        Self {
            settings: TelemetrySettings {
                endpoint: otlp.endpoint.clone(),
                traces: otlp.traces,
                logs: otlp.logs,
                sample: otlp.sample,
                propagate: otlp.propagate,
                queue_max: otlp.max_queue_size,
            },
            headers,
            resource: Resource::new(&otlp.service_name, more),
            timeout: otlp.timeout,
            delay: otlp.schedule_delay,
            batch_max: otlp.max_export_batch_size,
        }
    }
}

impl Exports {
    /// Exports nothing yet.
    pub(super) fn new(client: Arc<HttpClient>, metrics: Arc<Metrics>, clock: Clock) -> Self {
        let (switch, log) = (TelemetrySwitch::default(), OnceLock::new());
        Self { switch, log, client, metrics, clock, running: Mutex::default() }
    }

    /// The data path's switch.
    pub(super) fn switch(&self) -> &TelemetrySwitch {
        &self.switch
    }

    /// Exports as the configuration of the start says.
    ///
    /// # Errors
    /// When a header field cannot be read.
    pub(super) fn begin(&self, config: &Config, log: Option<&Verbosity>) -> Result<(), AppError> {
        let collector = Collector::load(config).map_err(refused)?;
        if let Some(log) = log {
            // Only the first call has an effect: a process has one log.
            drop(self.log.set(log.export().clone()));
        }
        self.apply(collector);
        Ok(())
    }

    /// Whether it exports to this collector.
    pub(super) fn is_to(&self, collector: Option<&Collector>) -> bool {
        self.running.lock().as_ref().map(|it| &it.collector) == collector
    }

    /// Exports to this collector from now on. Jobs of another one send what they have, and end.
    pub(super) fn apply(&self, collector: Option<Collector>) {
        let mut running = self.running.lock();
        if running.as_ref().map(|running| &running.collector) == collector.as_ref() {
            return;
        }
        let new = collector.map(|collector| self.start(collector));
        let telemetry = new.as_ref().map(|(telemetry, _)| telemetry);
        self.set(telemetry);
        let old = std::mem::replace(&mut *running, new.map(|(_, running)| running));
        if let Some(old) = old {
            tokio::spawn(old.finish());
        }
    }

    fn set(&self, telemetry: Option<&Arc<Telemetry>>) {
        for switch in std::iter::once(&self.switch).chain(self.log.get()) {
            switch.set(telemetry.cloned());
        }
    }

    fn start(&self, collector: Collector) -> (Arc<Telemetry>, RunningExport) {
        let settings = collector.settings.clone();
        let (telemetry, queues) = Telemetry::open(settings, self.metrics.clone());
        let exporter = Arc::new(Exporter {
            collector: collector.clone(),
            telemetry: telemetry.clone(),
            client: self.client.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            warned: Mutex::default(),
        });
        let (close, _) = watch::channel(false);
        let mut jobs = JoinSet::new();
        let Queues { spans, logs } = queues;
        if let Some(queue) = spans {
            jobs.spawn(exporter.clone().job(queue, close.subscribe()).run());
        }
        if let Some(queue) = logs {
            jobs.spawn(exporter.job(queue, close.subscribe()).run());
        }
        (telemetry, RunningExport { collector, close, jobs })
    }

    /// Sends what is queued, within a bounded time, and ends.
    pub(super) async fn finish(&self) {
        self.set(None);
        let running = self.running.lock().take();
        if let Some(running) = running {
            running.finish().await;
        }
    }
}

impl RunningExport {
    async fn finish(mut self) {
        self.close.send_replace(true);
        let all = async { while self.jobs.join_next().await.is_some() {} };
        if tokio::time::timeout(FLUSH_WITHIN, all).await.is_err() {
            tracing::warn!(
                id = "telemetry_failed",
                endpoint = self.collector.settings.endpoint,
                "the last spans and log records are lost: the collector did not accept them in time"
            );
        }
    }
}

impl<T: Exportable> ExportJob<T> {
    /// Runs until it is closed and the queue is empty.
    async fn run(mut self) {
        while let Some(batch) = self.batch().await {
            self.deliver(batch).await;
        }
    }

    /// The next items: as many as fit in a request, or those that came within the delay. `None` at the end.
    async fn batch(&mut self) -> Option<Vec<T>> {
        let (batch_max, delay) = (self.exporter.collector.batch_max, self.exporter.collector.delay);
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            _ = self.queue.recv_many(&mut batch, batch_max) => {}
            _ = self.close.wait_for(|close| *close) => {}
        }
        if batch.is_empty() {
            return None;
        }
        let due = Instant::now() + delay;
        while batch.len() < batch_max {
            let left = batch_max - batch.len();
            tokio::select! {
                biased;
                count = self.queue.recv_many(&mut batch, left) => if count == 0 { break },
                () = tokio::time::sleep_until(due) => break,
                _ = self.close.wait_for(|close| *close) => break,
            }
        }
        Some(batch)
    }

    /// Sends a batch, again after failures that may pass.
    async fn deliver(&mut self, batch: Vec<T>) {
        let (exporter, count) = (self.exporter.clone(), batch.len());
        let body = Bytes::from(T::encode(&exporter.collector.resource, batch));
        let (began, mut pause) = (Instant::now(), PAUSE);
        let lost = loop {
            let (why, after) = match exporter.send::<T>(body.clone()).await {
                ExportAttempt::Accepted(rejected) => {
                    let accepted = count.saturating_sub(rejected);
                    exporter.metrics.telemetry.exported(T::SIGNAL, accepted);
                    break count - accepted;
                }
                ExportAttempt::Refused(why) => {
                    exporter.failed::<T>(why, "telemetry is dropped: the collector refuses it");
                    break count;
                }
                ExportAttempt::Later(why, after) => (why, after),
            };
            exporter
                .failed::<T>(why, "telemetry cannot be exported: it is sent again for a minute");
            let rest = after.unwrap_or_default().max(pause.mul_f64(0.5 + random() / 2.0));
            pause = (pause * 2).min(PAUSE_MAX);
            if *self.close.borrow() || began.elapsed() + rest > RETRY_WITHIN {
                break count;
            }
            // One more attempt when the gateway stops.
            drop(tokio::time::timeout(rest, self.close.wait_for(|close| *close)).await);
        };
        if lost > 0 {
            exporter.metrics.telemetry.dropped(T::SIGNAL, lost);
        }
    }
}

impl Exporter {
    fn job<T>(self: Arc<Self>, queue: Receiver<T>, close: watch::Receiver<bool>) -> ExportJob<T> {
        ExportJob { exporter: self, queue, close }
    }

    async fn send<T: Exportable>(&self, body: Bytes) -> ExportAttempt {
        let Collector { settings, headers, timeout, .. } = &self.collector;
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        match format!("{}{}", settings.endpoint, T::PATH).parse() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(_) => return ExportAttempt::Refused("its URL cannot be posted to".to_owned()),
        }
        let fields = request.headers_mut();
        let agent = concat!("keyward/", env!("CARGO_PKG_VERSION"));
        fields.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        fields.extend(headers.clone());
        let media_type = HeaderValue::from_static("application/x-protobuf");
        fields.insert(header::CONTENT_TYPE, media_type);
        let bounds = Bounds {
            whole: *timeout,
            connect: *timeout,
            answer: None,
            head_bytes_max: 16 * 1024,
            body_bytes_max: ANSWER_BYTES_MAX,
            servers: AllowedServers::Configured,
        };
        let answer = Box::pin(self.client.call(request, &bounds)).await;
        self.judge::<T>(answer)
    }

    fn judge<T: Exportable>(&self, answer: Result<Response<Bytes>, CallError>) -> ExportAttempt {
        let (status, retry_after) = match &answer {
            Ok(answer) if answer.status().is_success() => {
                let rejected = T::rejected(answer.body());
                match (rejected.count, rejected.why.is_empty()) {
                    (0, true) => self.telemetry.set_failure(None),
                    _ => {
                        let why = quoted(&rejected.why);
                        let message = "the collector did not accept all telemetry";
                        self.failed::<T>(format!("it says: {why}"), message);
                    }
                }
                return ExportAttempt::Accepted(rejected.count);
            }
            Ok(answer) => (answer.status(), answer.headers().get(header::RETRY_AFTER)),
            Err(CallError::Unusable { status: Some(status), retry_after, .. }) => {
                (*status, retry_after.as_ref())
            }
            Err(CallError::Address) => {
                return ExportAttempt::Refused("its URL cannot be posted to".to_owned());
            }
            Err(error) => return ExportAttempt::Later(error.to_string(), None),
        };
        let why = format!("answered {}", status.as_u16());
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let after = retry_after.and_then(|value| value.to_str().ok());
                ExportAttempt::Later(
                    why,
                    after.and_then(|it| time::retry_after(it, self.clock.now())),
                )
            }
            _ => ExportAttempt::Refused(why),
        }
    }

    /// Notes a failure, and warns of it at most once a minute.
    fn failed<T: Exportable>(&self, why: String, message: &'static str) {
        let (endpoint, signal) = (&self.collector.settings.endpoint, T::SIGNAL.as_str());
        let is_grpc = endpoint.ends_with(":4317");
        let hint =
            is_grpc.then_some("4317 is the port of OTLP over gRPC: write that of HTTP, 4318");
        if self.may_warn() {
            tracing::warn!(id = "telemetry_failed", endpoint, signal, why, hint, "{message}");
        }
        let why = hint.map_or_else(|| why.clone(), |hint| format!("{why}; {hint}"));
        self.telemetry.set_failure(Some(ExportFailure { at: self.clock.now(), why }));
    }

    fn may_warn(&self) -> bool {
        let mut warned = self.warned.lock();
        let may = warned.is_none_or(|at| at.elapsed() >= WARN_EVERY);
        if may {
            *warned = Some(Instant::now());
        }
        may
    }
}

/// The beginning of a text of the collector, on one line.
fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(QUOTED_CHARS_MAX).collect()
}

/// From 0 to 1, so that gateways that failed together do not try again together.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
