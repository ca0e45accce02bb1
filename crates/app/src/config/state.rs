//! `store:`, `ca:`, `audit:` and `log:`: what Keyward writes, and where; and `store.postgres:`, a store that
//! several replicas share.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_yaml::Value;

use super::reading::ConfigReading;
use super::secret::SecretSource;
use super::source;
use keyward_base::keys::section;
use keyward_base::time::duration;
use keyward_state::observe::log::{Format, Level};
use keyward_state::observe::trail::Rotation;

/// Minimum size: with a smaller one, every few records would begin a new file.
const FILE_BYTES_MIN: u64 = 4096;

/// Minimum number of files: the active one, and one with earlier records.
const FILES_MIN: usize = 2;

#[derive(Clone, Debug, PartialEq)]
pub enum StoreChoice {
    /// The embedded one.
    Sled {
        /// Its directory.
        path: PathBuf,
    },
    /// Shared by several replicas.
    Postgres(Box<PostgresChoice>),
    /// In memory only; for tests.
    Memory,
}

/// The files of the CA; made when both are absent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaPaths {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Where audit records go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditTo {
    /// The file that is written.
    pub file: PathBuf,
    /// When it is full, and how many are kept.
    pub rotation: Rotation,
    /// Repeated on standard output.
    pub stdout: bool,
}

section! {
    /// Format and level of the log.
    #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    pub struct Log {
        /// The format of lines.
        #[key(one of ["text", "json"], "text")]
        pub format: Format,
        /// The lowest level shown.
        #[key(one of ["error", "warn", "info", "debug", "trace"], "info")]
        pub level: Level,
    }
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct StoreText {
        /// The embedded store, which is the default.
        #[key(map of SledText)]
        sled: Option<SledText>,
        /// A store in memory, whose content is lost when Keyward stops.
        #[key(map of MemoryText)]
        memory: Option<MemoryText>,
        /// A PostgreSQL database that several replicas share. It requires `master_key`, which is the same for all.
        #[key(map of PostgresText)]
        postgres: Option<PostgresText>,
    }
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct SledText {
        /// Its directory.
        #[key("path from the data directory", "store")]
        path: Option<String>,
    }
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct MemoryText {}
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct CaText {
        /// The certificate, followed by its issuers if it is an intermediate CA. Requires `key`.
        #[key("path from the data directory", "ca/ca.pem")]
        cert: Option<String>,
        /// Its private key. Requires `cert`.
        #[key("path from the data directory", "ca/ca.key")]
        key: Option<String>,
    }
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct AuditText {
        /// The file of the records.
        #[key("path from the data directory", "audit/audit.jsonl")]
        file: Option<String>,
        /// A file that would exceed this size is renamed, and a new one begins.
        #[key("bytes, 4096 or more", "67108864")]
        file_bytes_max: Option<u64>,
        /// The number of files; if there are more, the oldest is deleted.
        #[key("count, 2 or more", "64")]
        files_max: Option<usize>,
        /// Also writes records to standard output.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        stdout: bool,
    }
}

pub(super) fn store(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> StoreChoice {
    let default = StoreChoice::Sled { path: reading.default_state("store") };
    let Some(text) = reading.section::<StoreText>(value, "store") else { return default };
    let choice = match text {
        StoreText { postgres: Some(text), sled: None, memory: None } => {
            postgres(text, reading).map(|choice| StoreChoice::Postgres(choice.into()))
        }
        StoreText { sled: Some(sled), memory: None, postgres: None } => {
            sled_path(sled, reading).map(|path| StoreChoice::Sled { path })
        }
        StoreText { sled: None, memory: Some(MemoryText {}), postgres: None } => {
            Some(StoreChoice::Memory)
        }
        _ => {
            let remedy = "write `{ sled: { path: store } }`, `{ postgres: { url: { env: DATABASE_URL } } }` or `{ memory: {} }`";
            reading.problems.add("store", "this does not name one store", remedy);
            None
        }
    };
    choice.unwrap_or(default)
}

fn sled_path(text: SledText, reading: &mut ConfigReading<'_>) -> Option<PathBuf> {
    reading.state(text.path.as_deref().unwrap_or("store"), "store.sled.path")
}

pub(super) fn ca(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> CaPaths {
    let mut paths = CaPaths {
        cert: reading.default_state("ca/ca.pem"),
        key: reading.default_state("ca/ca.key"),
    };
    let Some(text) = reading.section::<CaText>(value, "ca") else { return paths };
    if text.cert.is_some() != text.key.is_some() {
        let remedy = "name `cert` and `key`, or omit both";
        reading.problems.add("ca", "a certificate and its key belong together", remedy);
    }
    for (text, path, slot) in
        [(text.cert, "ca.cert", &mut paths.cert), (text.key, "ca.key", &mut paths.key)]
    {
        if let Some(file) = text.and_then(|text| reading.state(&text, path)) {
            *slot = file;
        }
    }
    if paths.cert == paths.key {
        let remedy = "give the key a file of its own";
        reading.problems.add("ca", "certificate and key are one file", remedy);
    }
    paths
}

pub(super) fn audit(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> AuditTo {
    let file = reading.default_state("audit/audit.jsonl");
    let mut to = AuditTo { file, rotation: Rotation::default(), stdout: false };
    let Some(text) = reading.section::<AuditText>(value, "audit") else { return to };
    to.rotation = rotation(&text, reading);
    to.stdout = text.stdout;
    if let Some(file) = text.file.and_then(|file| reading.state(&file, "audit.file")) {
        to.file = file;
    }
    to
}

fn rotation(text: &AuditText, reading: &mut ConfigReading<'_>) -> Rotation {
    let default = Rotation::default();
    let file_bytes_max = text.file_bytes_max.unwrap_or(default.file_bytes_max);
    let files_max = text.files_max.unwrap_or(default.files_max);
    if file_bytes_max < FILE_BYTES_MIN {
        let message = format!("{file_bytes_max} bytes are too few for a record");
        let remedy = format!("write {FILE_BYTES_MIN} or more");
        reading.problems.add("audit.file_bytes_max", message, remedy);
    }
    if files_max < FILES_MIN {
        let message = "the records before the file that is written would be lost at once";
        let remedy = format!("write {FILES_MIN} or more");
        reading.problems.add("audit.files_max", message, remedy);
    }
    Rotation { file_bytes_max, files_max }
}

pub(super) fn log(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> Log {
    reading.section(value, "log").unwrap_or_default()
}

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
