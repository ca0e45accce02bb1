//! `store.postgres:`: a store that several replicas share.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_yaml::Value;

use super::reading::ConfigReading;
use super::secret::SecretSource;
use super::source;
use keyward_base::keys::section;
use keyward_base::time::duration;

/// A replica uses a stream for each write in progress, and one for the changes of the others.
const STREAMS_MIN: usize = 2;
const STREAMS_DEFAULT: usize = 16;

/// Below this, a slow disk of the database would look like its absence.
const TIMEOUT_MIN: Duration = Duration::from_millis(500);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

const STALE_MAX_DEFAULT: Duration = Duration::from_secs(300);

/// The database, and how it is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresChoice {
    /// The connection string, which may have a password.
    pub url: SecretSource,
    /// How streams are encrypted.
    pub tls: PostgresTls,
    /// Roots for the server's certificate; the platform's, if there are none.
    pub trust: Vec<PathBuf>,
    /// The most streams to the database.
    pub streams_max: usize,
    /// How long an operation may take.
    pub timeout: Duration,
    /// How long this replica is ready without news of the store.
    pub stale_max: Duration,
}

/// How streams to a database are encrypted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum PostgresTls {
    /// The server's certificate must be valid for its name. A Unix socket has no TLS.
    #[default]
    Verify,
    /// None: for a database on this machine, or behind a proxy that encrypts.
    Off,
}

section! {
    #[derive(Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub(super) struct PostgresText {
        /// Where the database is: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. Of several hosts, separated by commas,
        /// the first one that accepts writes is used, and after a failover the next. A changed file is read at the next start.
        #[key("[secret](#secrets)", required)]
        url: Option<Value>,
        /// `verify`: TLS, with a certificate that is valid for the host. `off`: no encryption, for a database on this
        /// machine. `sslmode` in the URL has no effect.
        #[key(one of ["verify", "off"], "verify")]
        tls: PostgresTls,
        /// Files of roots that the server's certificate is verified with, in addition to the platform's.
        #[key("list of paths from the folder of the configuration", "[]")]
        trust: Vec<String>,
        /// Streams of this replica to the database, at least 2. One of three or more hears of changes of other
        /// replicas. Further operations wait for a free one.
        #[key("count", "16")]
        streams_max: usize,
        /// The time for an operation, and for a new stream, at least 500ms. Then the operation fails, and the database
        /// counts as absent.
        #[key("time", "5s")]
        #[serde(with = "duration")]
        timeout: Duration,
        /// While the database is absent, this replica serves from memory. After this time its `/readyz` answers 503,
        /// because tokens that were revoked through other replicas would still be accepted.
        #[key("time", "5m")]
        #[serde(with = "duration")]
        stale_max: Duration,
    }
}

impl Default for PostgresText {
    fn default() -> Self {
        Self {
            url: None,
            tls: PostgresTls::default(),
            trust: Vec::new(),
            streams_max: STREAMS_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
            stale_max: STALE_MAX_DEFAULT,
        }
    }
}

pub(super) fn postgres(
    text: PostgresText,
    reading: &mut ConfigReading<'_>,
) -> Option<PostgresChoice> {
    let at = "store.postgres";
    let Some(url) = &text.url else {
        let remedy = "write `{ postgres: { url: { env: DATABASE_URL } } }`";
        reading.problems.add(at, "`url` is missing", remedy);
        return None;
    };
    let url = source::secret(url, "store.postgres.url", reading);
    let PostgresText { tls, trust, streams_max, timeout, stale_max, .. } = text;
    let trust: Vec<_> =
        trust.iter().filter_map(|path| reading.input(path, "store.postgres.trust")).collect();
    if streams_max < STREAMS_MIN {
        let remedy = format!("write {STREAMS_MIN} or more");
        let message = format!("{streams_max} streams cannot serve a replica");
        reading.problems.add("store.postgres.streams_max", message, remedy);
    }
    if timeout < TIMEOUT_MIN {
        let message = "the time is too short for a commit";
        reading.problems.add("store.postgres.timeout", message, "write 500ms or more, such as 5s");
    }
    Some(PostgresChoice { url: url?, tls, trust, streams_max, timeout, stale_max })
}
