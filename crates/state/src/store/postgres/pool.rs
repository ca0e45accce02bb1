//! Streams to the database: bounded in number, each operation bounded in time. A stream whose operation took too long is
//! closed, because its answer may come at any time; with several servers, all of them are. Operations that the database
//! wants to be repeated (serialization failures, deadlocks) are.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime,
};
use parking_lot::Mutex;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::PostgresSettings;
use super::servers::Servers;
use super::tls::Tls;
use crate::store::StoreError;

/// How often an operation is repeated that lost against another.
const REPEATS: u32 = 20;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The settings do not fit together.
    #[error("the settings of the database cannot be used: {0}")]
    Settings(String),
    /// The database cannot be reached or refuses.
    #[error("cannot use the database: {0}")]
    Unusable(Failure),
    /// A newer version of Keyward has changed the tables.
    #[error(
        "the tables of the database are for programs that know version {oldest} (Keyward {by} changed them), and \
         this program, Keyward {own}, knows version {known}",
        own = env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The oldest version of the tables that a program must know.
        oldest: i32,
        /// The version that this program knows.
        known: i32,
        /// The version of Keyward that changed them.
        by: String,
    },
    /// Replicas run that may not know tables of the version that this program needs.
    #[error(
        "the database has tables of version {found}, this program, Keyward {own}, needs version {needed}, which \
         running replicas may not know",
        own = env!("CARGO_PKG_VERSION")
    )]
    OlderRunning {
        /// The version of the tables.
        found: i32,
        /// The version that this program needs.
        needed: i32,
    },
    /// An operation failed.
    #[error(transparent)]
    Store(StoreError),
    /// Other replicas were making the tables all the time.
    #[error("other replicas are preparing the database: start again")]
    Interrupted,
}

/// Why an operation failed. It never has the login.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    text: String,
    state: Option<SqlState>,
}

/// The streams. Clones share them.
#[derive(Clone)]
pub(super) struct Pool {
    streams: deadpool_postgres::Pool,
    timeout: Duration,
    place: Arc<str>,
    /// Whether there is another server to write to.
    has_others: bool,
    /// Streams that were opened before are closed instead of used.
    used_until: Arc<Mutex<Option<Instant>>>,
}

impl PostgresError {
    /// What the operator can do, if the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unusable(_) | Self::Store(_) => Some(
                "check `store.postgres`, and whether the database is up and lets this role create tables",
            ),
            Self::Newer { .. } => Some(
                "update this program to that version or a later one; to go back, restore a backup into an empty database",
            ),
            Self::OlderRunning { .. } => Some(
                "stop all replicas, wait 20 seconds, then start replicas of this version: this upgrade cannot roll",
            ),
            Self::Settings(_) | Self::Interrupted => None,
        }
    }

    /// Whether a later try may succeed although nothing is changed here: the database did not answer, or starts or stops.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unusable(failure) => failure.is_passing(),
            Self::Store(StoreError::Io { source, .. }) => source.kind() == io::ErrorKind::TimedOut,
            Self::Interrupted => true,
            _ => false,
        }
    }
}

impl Pool {
    pub(super) fn new(settings: PostgresSettings) -> Result<Self, PostgresError> {
        let PostgresSettings { mut database, tls, streams_max, timeout } = settings;
        let place = place(&database).into();
        database.connect_timeout(timeout).application_name("keyward");
        database.keepalives_idle(Duration::from_secs(10));
        #[cfg(target_os = "linux")]
        database.tcp_user_timeout(timeout * 2);
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let has_others = database.get_hosts().len().max(database.get_hostaddrs().len()) > 1;
        let manager = match tls {
            Some(config) => {
                let servers = Servers::of(&database, Tls(config), timeout)?;
                Manager::from_connect(database, servers, manager)
            }
            None => {
                let servers = Servers::of(&database, tokio_postgres::NoTls, timeout)?;
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
                let set = format!("SET statement_timeout = {milliseconds}");
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
        Ok(Self { streams, timeout, place, has_others, used_until })
    }

    /// A stream, for the start.
    pub(super) async fn connect(&self) -> Result<Object, PostgresError> {
        self.streams.get().await.map_err(|error| PostgresError::Unusable(self.unreachable(&error)))
    }

    /// A stream for several statements.
    pub(super) async fn stream(&self, action: &'static str) -> Result<Object, StoreError> {
        self.streams.get().await.map_err(|error| self.unreachable(&error).during(action))
    }

    /// One statement, which is repeated when the database asks for it.
    pub(super) async fn query(
        &self,
        action: &'static str,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let (mut repeats, mut is_moved) = (0, false);
        loop {
            let stream = self.stream(action).await?;
            let statement = async {
                let prepared = stream.prepare_cached(sql).await?;
                stream.query(&prepared, parameters).await
            };
            let failure = match tokio::time::timeout(self.timeout, statement).await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) => Failure::of(error),
                Err(_) => {
                    drop(Object::take(stream));
                    if self.has_others {
                        self.close_all();
                    }
                    let text = format!("{} did not answer within {:?}", self.place, self.timeout);
                    let source = io::Error::new(io::ErrorKind::TimedOut, text);
                    return Err(StoreError::Io { action, source });
                }
            };
            if failure.is_read_only() && !is_moved {
                // Nothing was written, and another server may be the one for it.
                drop(Object::take(stream));
                self.close_all();
                is_moved = true;
            } else if !failure.repeats(&mut repeats).await {
                return Err(failure.during(action));
            }
        }
    }

    /// New streams from now on: after a failover, those that are open lead to a server that is silent or read-only.
    fn close_all(&self) {
        *self.used_until.lock() = Some(Instant::now());
        drop(self.streams.retain(|_, _| false));
    }

    fn unreachable(&self, error: &PoolError) -> Failure {
        let (text, state) = match error {
            PoolError::Timeout(_) => (format!("no answer within {:?}", self.timeout), None),
            PoolError::Backend(error) => {
                let failure = Failure::of_ref(error);
                (failure.text, failure.state)
            }
            PoolError::PostCreateHook(HookError::Backend(error)) => {
                let failure = Failure::of_ref(error);
                (failure.text, failure.state)
            }
            other => (other.to_string(), None),
        };
        Failure { text: format!("{}: {text}", self.place), state }
    }
}

impl Failure {
    pub(super) fn of(error: tokio_postgres::Error) -> Self {
        Self::of_ref(&error)
    }

    pub(super) fn of_ref(error: &tokio_postgres::Error) -> Self {
        let state = error.code().cloned();
        let text = match error.as_db_error() {
            Some(error) => format!("{} ({})", error.message(), error.code().code()),
            None => {
                // The error's own text leaves out its cause.
                let cause = std::error::Error::source(error);
                cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
            }
        };
        Self { text, state }
    }

    /// Whether the server serves reads only, as the primary of before a failover may do.
    fn is_read_only(&self) -> bool {
        self.state == Some(SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    /// Whether the database did not answer, or is about to start or to stop.
    fn is_passing(&self) -> bool {
        let Some(state) = &self.state else { return true };
        [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::TOO_MANY_CONNECTIONS,
        ]
        .contains(state)
    }

    /// Whether the same operation is likely to succeed at once.
    pub(super) fn is_repeated(&self) -> bool {
        let Some(state) = &self.state else { return false };
        [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            // Two replicas make a table at the same time.
            SqlState::DUPLICATE_TABLE,
            SqlState::UNIQUE_VIOLATION,
        ]
        .contains(state)
    }

    /// Waits before the next repetition; false if the failure stays, or there were enough.
    pub(super) async fn repeats(&self, repeats: &mut u32) -> bool {
        if !self.is_repeated() || *repeats == REPEATS {
            return false;
        }
        *repeats += 1;
        tokio::time::sleep(Duration::from_millis(1 << (*repeats).min(7))).await;
        true
    }

    pub(super) fn during(self, action: &'static str) -> StoreError {
        StoreError::Io { action, source: io::Error::other(self.text) }
    }
}

impl From<Failure> for PostgresError {
    fn from(failure: Failure) -> Self {
        Self::Unusable(failure)
    }
}

/// The error of an operation that is not repeated.
pub(super) fn failed(action: &'static str, error: &tokio_postgres::Error) -> StoreError {
    Failure::of_ref(error).during(action)
}

/// Host and database, for messages.
fn place(database: &tokio_postgres::Config) -> String {
    use tokio_postgres::config::Host;
    let hosts = database.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<_> = hosts.collect();
    format!("database {} at {}", database.get_dbname().unwrap_or_default(), hosts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_tried_again_only_where_the_database_may_answer_later() {
        let failure = |state| Failure { text: String::new(), state };
        for state in [
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_CATALOG_NAME,
            SqlState::INSUFFICIENT_PRIVILEGE,
        ] {
            assert!(!PostgresError::Unusable(failure(Some(state))).is_passing());
        }
        assert!(!PostgresError::Settings(String::new()).is_passing());
        let io = |kind| {
            PostgresError::Store(StoreError::Io { action: "read", source: io::Error::from(kind) })
        };
        assert!(!io(io::ErrorKind::Other).is_passing());
        assert!(io(io::ErrorKind::TimedOut).is_passing());
        for state in [None, Some(SqlState::CANNOT_CONNECT_NOW)] {
            assert!(PostgresError::Unusable(failure(state)).is_passing());
        }
    }
}
