//! Why the store cannot be opened, and why an operation failed; which failures are temporary, and which operations are
//! repeated.

use std::io;
use std::time::Duration;

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::store::StoreError;
use crate::store::error::NO_ANSWER;

/// How often an operation is repeated after a conflict with another transaction.
const REPEATS: u32 = 20;

/// In the client library's text about a server that is configured without TLS. The library has no code for it.
const NO_TLS: &str = "server does not support TLS";

/// In the text of rustls about a certificate of another name or an unknown root.
const BAD_CERTIFICATE: &str = "invalid peer certificate";

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The settings do not fit together.
    #[error("the settings of the database cannot be used: {0}")]
    Settings(String),
    /// The database cannot be reached or refuses.
    #[error("cannot use the database: {0}")]
    Unusable(PostgresFailure),
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
    /// Other replicas created the tables at the same time, at every attempt.
    #[error("other replicas are preparing the database: start again")]
    Interrupted,
}

/// Why an operation failed. It never contains the login.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct PostgresFailure {
    pub(super) text: String,
    pub(super) state: Option<SqlState>,
    pub(super) severity: Option<Severity>,
}

impl PostgresError {
    /// What the operator can do, if the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unusable(failure) if failure.is_without_tls() => Some(
                "switch TLS on at the database, or write `store: { postgres: { tls: off } }` for one on this machine",
            ),
            Self::Unusable(failure) if failure.has_certificate_of_another_time() => {
                Some("renew the certificate of the database, or set the clock of this machine")
            }
            Self::Unusable(failure) if failure.has_bad_certificate() => Some(
                "`store.postgres.url` must name a host of the certificate, and `store.postgres.trust` its root if that is not the platform's",
            ),
            Self::Unusable(failure) if failure.is_login_refused() => {
                Some("check the user and the password in `store.postgres.url`")
            }
            Self::Unusable(_) | Self::Store(_) => Some(
                "check `store.postgres`, and whether the database is up and lets this role create tables",
            ),
            Self::Newer { .. } => Some(
                "update this program to that version or a later one; to go back, restore a backup into an empty database",
            ),
            Self::OlderRunning { .. } => Some(
                "stop all replicas, wait 20 seconds, then start replicas of this version: a \
                 rolling upgrade is not possible",
            ),
            Self::Settings(_) | Self::Interrupted => None,
        }
    }

    /// Whether a retry may succeed without a change of the configuration: the database did not answer, or is starting
    /// or stopping.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unusable(failure) => failure.is_transient(),
            Self::Store(error) => error.is_away(),
            Self::Interrupted => true,
            _ => false,
        }
    }
}

impl PostgresFailure {
    pub(super) fn of(error: tokio_postgres::Error) -> Self {
        Self::of_ref(&error)
    }

    pub(super) fn of_ref(error: &tokio_postgres::Error) -> Self {
        let state = error.code().cloned();
        let text = match error.as_db_error() {
            Some(error) => format!("{} ({})", error.message(), error.code().code()),
            None => {
                // The error's own text omits its cause.
                let cause = std::error::Error::source(error);
                cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
            }
        };
        let severity = error.as_db_error().and_then(DbError::parsed_severity);
        Self { text, state, severity }
    }

    /// Whether the server is read-only, as a former primary may be after a failover.
    pub(super) fn is_read_only(&self) -> bool {
        self.state == Some(SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    /// Whether the database did not answer, or is starting or stopping.
    pub(super) fn is_transient(&self) -> bool {
        let Some(state) = &self.state else {
            return !self.is_without_tls() && !self.has_bad_certificate();
        };
        self.is_of_stream()
            || [SqlState::TOO_MANY_CONNECTIONS, SqlState::QUERY_CANCELED].contains(state)
    }

    /// Whether the server has no TLS, so that a retry does not help.
    fn is_without_tls(&self) -> bool {
        self.state.is_none() && self.text.contains(NO_TLS)
    }

    fn has_bad_certificate(&self) -> bool {
        self.state.is_none() && self.text.contains(BAD_CERTIFICATE)
    }

    fn has_certificate_of_another_time(&self) -> bool {
        // Without and with the times.
        let texts = ["Expired", "certificate expired", "NotValidYet", "certificate not valid yet"];
        self.has_bad_certificate() && texts.iter().any(|text| self.text.contains(text))
    }

    fn is_login_refused(&self) -> bool {
        let refused = [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION];
        self.state.as_ref().is_some_and(|state| refused.contains(state))
    }

    /// Whether the database does not know the statement, or does not permit it.
    pub(super) fn is_refusal(&self) -> bool {
        let class = self.state.as_ref().map(|state| &state.code()[..2]);
        matches!(class, Some("0A" | "42"))
    }

    /// Whether the same operation is likely to succeed at once.
    pub(super) fn is_repeated(&self) -> bool {
        let Some(state) = &self.state else { return false };
        [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            // Two replicas create a table at the same time.
            SqlState::DUPLICATE_TABLE,
            SqlState::UNIQUE_VIOLATION,
        ]
        .contains(state)
    }

    /// Waits before the next repetition; false if repeating does not help, or was done often enough.
    pub(super) async fn repeats(&self, repeats: &mut u32) -> bool {
        if !self.is_repeated() || *repeats == REPEATS {
            return false;
        }
        *repeats += 1;
        tokio::time::sleep(Duration::from_millis(1 << (*repeats).min(7))).await;
        true
    }

    /// Whether the stream or the server ended, also if a pooler reports that as an error of the server.
    pub(super) fn is_of_stream(&self) -> bool {
        let code = self.state.as_ref().map(SqlState::code);
        code.is_none_or(|code| code.starts_with("08") || code.starts_with("57P"))
    }

    /// Whether the database has certainly not made the change.
    fn is_certain(&self) -> bool {
        self.severity == Some(Severity::Error)
            && !self.is_of_stream()
            && self.state != Some(SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN)
    }

    pub(super) fn during(self, action: &'static str) -> StoreError {
        let is_certain = self.is_certain();
        let kind = if self.is_transient() { NO_ANSWER } else { io::ErrorKind::Other };
        let source = io::Error::new(kind, self.text);
        match is_certain {
            true => StoreError::Unreached { action, source },
            false => StoreError::Io { action, source },
        }
    }
}

impl From<PostgresFailure> for PostgresError {
    fn from(failure: PostgresFailure) -> Self {
        Self::Unusable(failure)
    }
}

/// The error of an operation that is not repeated.
pub(super) fn failed(action: &'static str, error: &tokio_postgres::Error) -> StoreError {
    PostgresFailure::of_ref(error).during(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_tried_again_only_where_the_database_may_answer_later() {
        let failure = |state| PostgresFailure { text: String::new(), state, severity: None };
        for state in [
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_CATALOG_NAME,
            SqlState::INSUFFICIENT_PRIVILEGE,
        ] {
            assert!(!PostgresError::Unusable(failure(Some(state))).is_transient());
        }
        assert!(!PostgresError::Settings(String::new()).is_transient());
        let io = |kind| {
            PostgresError::Store(StoreError::Io { action: "read", source: io::Error::from(kind) })
        };
        assert!(!io(io::ErrorKind::Other).is_transient());
        assert!(io(io::ErrorKind::TimedOut).is_transient());
        let text = format!("database kw at db: error performing TLS handshake: {NO_TLS}");
        let without_tls =
            PostgresError::Unusable(PostgresFailure { text, state: None, severity: None });
        assert!(!without_tls.is_transient());
        assert!(without_tls.hint().is_some_and(|hint| hint.contains("tls: off")));
        let untrusted = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let text = format!("database kw at db: error performing TLS handshake: {untrusted}");
        let untrusted =
            PostgresError::Unusable(PostgresFailure { text, state: None, severity: None });
        assert!(!untrusted.is_transient());
        assert!(untrusted.hint().is_some_and(|hint| hint.contains("store.postgres.trust")));
        let now = rustls::pki_types::UnixTime::since_unix_epoch(Duration::ZERO);
        for error in [
            rustls::CertificateError::Expired,
            rustls::CertificateError::ExpiredContext { time: now, not_after: now },
            rustls::CertificateError::NotValidYet,
            rustls::CertificateError::NotValidYetContext { time: now, not_before: now },
        ] {
            let text = format!("database kw at db: {}", rustls::Error::InvalidCertificate(error));
            let failure = PostgresFailure { text, state: None, severity: None };
            let untimely = PostgresError::Unusable(failure);
            assert!(untimely.hint().is_some_and(|hint| hint.contains("renew")), "{untimely}");
        }
        let wrong = PostgresError::Unusable(failure(Some(SqlState::INVALID_PASSWORD)));
        assert!(wrong.hint().is_some_and(|hint| hint.contains("password")));
        for state in [None, Some(SqlState::CANNOT_CONNECT_NOW)] {
            assert!(PostgresError::Unusable(failure(state)).is_transient());
        }
    }

    #[test]
    fn only_an_error_of_the_statement_itself_proves_that_nothing_was_written() {
        let is_certain = |state, severity| {
            let failure = PostgresFailure { text: String::new(), state, severity };
            !failure.during("write a row").is_outcome_unknown()
        };
        let error = Some(Severity::Error);
        for state in [
            SqlState::CONNECTION_FAILURE,
            SqlState::PROTOCOL_VIOLATION,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN,
        ] {
            assert!(!is_certain(Some(state), error));
        }
        assert!(!is_certain(None, error));
        // The server ends because its log cannot be written.
        assert!(!is_certain(Some(SqlState::DISK_FULL), Some(Severity::Panic)));
        assert!(!is_certain(Some(SqlState::DISK_FULL), None));
        for state in
            [SqlState::DISK_FULL, SqlState::INSUFFICIENT_PRIVILEGE, SqlState::QUERY_CANCELED]
        {
            assert!(is_certain(Some(state), error));
        }
    }

    #[test]
    fn only_an_unknown_or_forbidden_statement_is_a_refusal() {
        let failure = |state| PostgresFailure { text: String::new(), state, severity: None };
        for state in [None, Some(SqlState::ADMIN_SHUTDOWN), Some(SqlState::QUERY_CANCELED)] {
            assert!(!failure(state).is_refusal());
        }
        for state in [
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::SYNTAX_ERROR,
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::UNDEFINED_FUNCTION,
        ] {
            assert!(failure(Some(state)).is_refusal());
        }
    }
}
