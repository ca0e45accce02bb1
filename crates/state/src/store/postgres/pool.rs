//! Streams to the database: their number is bounded, and so is the time of each operation. A stream whose operation
//! took too long is closed, because its answer may still come, and so are streams that were unused for as long; with
//! several servers, all streams are closed. Operations with serialization failures or deadlocks are repeated, and reads
//! whose stream ended. While a process starts, operations wait for a database that does not answer.
//!
//! TLS is rustls with the configuration of the caller, which always verifies name and certificate.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime,
};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Row;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::{TlsConnector, client};

use super::change_notice::ChangeNotice;
use super::failure::{PostgresError, PostgresFailure};
use super::servers::{PostgresServers, ServerFailures, addresses};
use super::sql;
use super::sql::{Parameter, typed};
use crate::store::StoreError;

/// The pause between two attempts to get a stream while the process starts.
const WAIT_POLL: Duration = Duration::from_millis(250);

/// The streams. Clones share them.
#[derive(Clone)]
pub(super) struct PostgresPool {
    streams: deadpool_postgres::Pool,
    timeout: Duration,
    place: Arc<str>,
    /// Whether several servers are configured.
    has_others: bool,
    server_failures: ServerFailures,
    /// Streams that were opened before this time are closed instead of used.
    used_until: Arc<Mutex<Option<Instant>>>,
    /// Until this time, operations wait for a database that does not answer.
    waits_until: Arc<Mutex<Option<Instant>>>,
}

impl PostgresPool {
    pub(super) fn new(
        settings: PostgresSettings,
        notice: &Arc<ChangeNotice>,
    ) -> Result<Self, PostgresError> {
        let PostgresSettings { mut database, tls, streams_max, timeout } = settings;
        let place = place(&database).into();
        database.connect_timeout(timeout).application_name("keyward");
        database.keepalives_idle(Duration::from_secs(10));
        #[cfg(target_os = "linux")]
        database.tcp_user_timeout(timeout * 2);
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let has_others = database.get_hosts().len().max(database.get_hostaddrs().len()) > 1;
        let failures = ServerFailures::default();
        let manager = match tls {
            Some(config) => {
                let servers =
                    PostgresServers::of(&database, Tls(config), timeout, notice, &failures)?;
                Manager::from_connect(database, servers, manager)
            }
            None => {
                let tls = tokio_postgres::NoTls;
                let servers = PostgresServers::of(&database, tls, timeout, notice, &failures)?;
                Manager::from_connect(database, servers, manager)
            }
        };
        let used_until: Arc<Mutex<Option<Instant>>> = Arc::default();
        let until = used_until.clone();
        let is_used = Hook::sync_fn(move |_, metrics| match *until.lock() {
            Some(until) if metrics.created <= until => Err(HookError::message("a failover")),
            _ => Ok(()),
        });
        let milliseconds = timeout.as_millis();
        let bounded = Hook::async_fn(move |stream: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(async move {
                // An answered write is on disk, whatever the default of the database; `remote_apply` waits for more.
                let set = format!(
                    "SET statement_timeout = {milliseconds}; \
                     SELECT set_config('synchronous_commit', 'on', false) \
                     WHERE current_setting('synchronous_commit', true) <> 'remote_apply'"
                );
                stream.batch_execute(&set).await.map_err(HookError::Backend)
            })
        });
        let streams = deadpool_postgres::Pool::builder(manager)
            .max_size(streams_max)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(timeout))
            .create_timeout(Some(timeout))
            .recycle_timeout(Some(timeout))
            .post_create(bounded)
            .pre_recycle(is_used)
            .build()
            .map_err(|error| PostgresError::Settings(error.to_string()))?;
        let (server_failures, waits_until) = (failures, Arc::default());
        Ok(Self { streams, timeout, place, has_others, server_failures, used_until, waits_until })
    }

    /// Lets operations wait for a database that does not answer, for this time from now on.
    pub(super) fn wait_out(&self, time: Duration) {
        *self.waits_until.lock() = Some(Instant::now() + time);
    }

    fn waits(&self) -> bool {
        self.waits_until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// A stream, for the start.
    pub(super) async fn connect(&self) -> Result<Object, PostgresError> {
        self.streams.get().await.map_err(|error| PostgresError::Unusable(self.unreachable(&error)))
    }

    /// A stream for several statements.
    pub(super) async fn stream(&self, action: &'static str) -> Result<Object, StoreError> {
        loop {
            let failure = match self.streams.get().await {
                Ok(stream) => return Ok(stream),
                Err(error) => self.unreachable(&error),
            };
            if !failure.is_transient() || !self.waits() {
                return Err(failure.during(action).before_writing());
            }
            tokio::time::sleep(WAIT_POLL).await;
        }
    }

    /// Runs one statement, which is repeated after serialization failures and deadlocks. A statement that only reads is
    /// repeated once if its stream ended, on another one.
    pub(super) async fn query(
        &self,
        action: &'static str,
        statement: &'static str,
        parameters: &[&dyn Parameter],
    ) -> Result<Vec<Row>, StoreError> {
        let (mut repeats, mut is_moved, mut is_cut) = (0, false, false);
        loop {
            let stream = self.stream(action).await?;
            let parameters = typed(parameters);
            let answer = stream.query_typed(statement, &parameters);
            let failure = match tokio::time::timeout(self.timeout, answer).await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) => PostgresFailure::of(error),
                Err(_) => {
                    drop(Object::take(stream));
                    match self.has_others {
                        true => self.close_all(),
                        false => self.close_idle(),
                    }
                    let source = io::Error::new(io::ErrorKind::TimedOut, self.no_answer());
                    return Err(StoreError::Io { action, source });
                }
            };
            if failure.is_read_only() && !is_moved {
                // The server is read-only, so nothing was written; the next stream may lead to another server.
                drop(Object::take(stream));
                self.close_all();
                is_moved = true;
            } else if sql::only_reads(statement)
                && failure.is_of_stream()
                && (!is_cut || self.waits())
            {
                drop(Object::take(stream));
                is_cut = true;
            } else if !failure.repeats(&mut repeats).await {
                return Err(failure.during(action));
            }
        }
    }

    /// Runs a statement within the time limit of an operation.
    pub(super) async fn bounded<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PostgresFailure> {
        match tokio::time::timeout(self.timeout, statement).await {
            Ok(done) => done.map_err(PostgresFailure::of),
            Err(_) => Err(PostgresFailure { text: self.no_answer(), state: None, severity: None }),
        }
    }

    /// Closes a stream after a failed transaction, if it or its server cannot be used again, and others like it.
    pub(super) fn close_after(&self, stream: Object, failure: &PostgresFailure) {
        if failure.is_read_only() || failure.is_of_stream() {
            drop(Object::take(stream));
            match failure.is_read_only() || self.has_others {
                true => self.close_all(),
                false => self.close_idle(),
            }
        }
    }

    fn no_answer(&self) -> String {
        format!("{} did not answer within {:?}", self.place, self.timeout)
    }

    /// The most streams.
    pub(super) fn streams_max(&self) -> usize {
        self.streams.status().max_size
    }

    #[cfg(test)]
    pub(super) fn open_streams(&self) -> usize {
        self.streams.status().size
    }

    /// Whether a stream was opened before the last failover.
    pub(super) fn has_left(&self, stream: &Object) -> bool {
        self.used_until.lock().is_some_and(|until| Object::metrics(stream).created <= until)
    }

    /// Stops using the open streams: after a failover, they lead to a server that does not answer or is read-only.
    fn close_all(&self) {
        *self.used_until.lock() = Some(Instant::now());
        drop(self.streams.retain(|_, _| false));
    }

    /// Closes streams that were unused for as long as the failed operation took: what lies between may have dropped them
    /// too, and each would cost the same time.
    fn close_idle(&self) {
        drop(self.streams.retain(|_, metrics| metrics.last_used() < self.timeout));
    }

    fn unreachable(&self, error: &PoolError) -> PostgresFailure {
        let (text, state) = match error {
            PoolError::Timeout(_) => (format!("no answer within {:?}", self.timeout), None),
            PoolError::Backend(error) => {
                let failure = PostgresFailure::of_ref(error);
                (self.server_failures.text().unwrap_or(failure.text), failure.state)
            }
            PoolError::PostCreateHook(HookError::Backend(error)) => {
                let failure = PostgresFailure::of_ref(error);
                (failure.text, failure.state)
            }
            other => (other.to_string(), None),
        };
        PostgresFailure { text: format!("{}: {text}", self.place), state, severity: None }
    }
}

/// Hosts, ports and database, for messages.
fn place(database: &tokio_postgres::Config) -> String {
    let name = database.get_dbname().unwrap_or_default();
    format!("database {name} at {}", addresses(database).join(", "))
}

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// The address of the database, and the login. Its debug text omits the password.
    pub database: tokio_postgres::Config,
    /// Verifies the server; `None`: the stream is not encrypted.
    pub tls: Option<Arc<ClientConfig>>,
    /// The most streams to the database.
    pub streams_max: usize,
    /// How long an operation may take.
    pub timeout: Duration,
}

#[derive(Clone)]
pub(super) struct Tls(pub(super) Arc<ClientConfig>);

/// A connector to one host.
pub(super) struct ToHost {
    connector: TlsConnector,
    name: ServerName<'static>,
}

pub(super) struct Encrypted<S>(client::TlsStream<S>);

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type TlsConnect = ToHost;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<ToHost> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(ToHost { connector: TlsConnector::from(self.0.clone()), name })
    }
}

impl<S> TlsConnect<S> for ToHost
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, stream).await.map(Encrypted) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        // Not needed, because the certificate was verified.
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
