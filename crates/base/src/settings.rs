//! [`Settings`] of a connection: timeout, retry, rate limit and fields of its requests. Parsed once, from YAML,
//! JSON or arguments; every value is within its bounds. No value is secret, but messages quote none: a secret
//! may have been entered by mistake.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::database::DatabaseProtocol;
use super::keys::{Section, section};
use super::rare::SharedDefault;
use super::time::{format_duration, parse_duration};

mod databases;
mod error;
mod headers;

pub use databases::{NamePattern, RoleName, StatementKind};
pub use error::SettingsError;
pub use headers::{FieldText, Headers, parse_name};

section! {
    /// How requests with a connection's credential are sent. Unset values use the gateway's defaults.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Settings {
        /// Time from the end of the request to the head of its response, including retries and the waits
        /// between them; 10ms to 1h. Default: `limits.answer_timeout`.
        #[key("time")]
        #[option("timeout", "TIME", "time until an answer begins, attempts and waits included, such as 30s", under "Settings")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub timeout: Option<Wait>,
        /// Retries requests that failed. Default: requests are sent once.
        #[key(map of Retry)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub retry: Option<Retry>,
        /// Requests of all agents together, such as `10/s`, `100/min` or `5000/h`: this many at once, then at
        /// an even rate. Above it: 429 `rate_limited`.
        #[key("count and `/s`, `/min` or `/h`")]
        #[option("rate-limit", "RATE", "requests of all agents in a time, such as 10/s, 100/min or 5000/h", under "Settings")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub rate_limit: Option<Rate>,
        /// Concurrent exchanges of all agents together, 1 to 100000. Above it: 429 `rate_limited`.
        #[key("count, 1 or more")]
        #[option("concurrency", "N", "concurrent exchanges, of all agents together", under "Settings")]
        #[serde(deserialize_with = "concurrency", skip_serializing_if = "Option::is_none")]
        pub concurrency: Option<u32>,
        /// Replaces the agent's `User-Agent`.
        #[key("text")]
        #[option("user-agent", "TEXT", "replaces the agents' User-Agent", under "Settings")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub user_agent: Option<FieldText>,
        /// Fields of every request, which replace those of the agent; at most 32, and none that routes, frames
        /// or authenticates.
        #[key("map of text to text", "{}")]
        #[option("header", "NAME: VALUE", "a field of every request, instead of the agents'; may be given several times", under "Settings")]
        #[serde(skip_serializing_if = "Headers::is_empty")]
        pub headers: Headers,
        /// Protocols that requests may switch to by `Upgrade`, such as `SPDY/3.1` or `tcp`; the bytes that follow are not
        /// inspected. WebSockets need none. Default: the provider's `upgrades`.
        #[key("list of text")]
        #[option("upgrades", "PROTOCOL,", "protocols that requests may switch to by Upgrade, such as SPDY/3.1 or tcp", under "Settings")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub upgrades: Option<Vec<FieldText>>,
        /// Databases: sessions are [read-only](../guides/databases.md#read-only). Files: programs are
        /// [asked to read only](../guides/databases.md#sqlite).
        #[key("`true` or `false`")]
        #[option("read-only", "BOOL", "sessions may only read", under "Settings of databases")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub read_only: Option<bool>,
        /// PostgreSQL: the longest time that one statement may take; 10ms to 1h. Agents cannot change it in read-only
        /// sessions. Default: the server's.
        #[key("time")]
        #[option("statement-timeout", "TIME", "the longest time that one statement may take, such as 30s", under "Settings of databases")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub statement_timeout: Option<Wait>,
        /// PostgreSQL and MySQL: the [statements](../guides/databases.md#rules-on-statements) on data that a session may send; all
        /// others are refused. Default: those that the role may.
        #[key("list of `select`, `insert`, `update`, `delete`, `merge` and `truncate`")]
        #[option("statements", "KIND,", "kinds of statements in sessions: select, insert, update, delete, merge, truncate", under "Settings of databases")]
        #[serde(deserialize_with = "databases::kinds", skip_serializing_if = "Option::is_none")]
        pub statements: Option<BTreeSet<StatementKind>>,
        /// PostgreSQL and MySQL: the tables and views that statements may name, such as `orders`, `sales.orders` or `sales.*`; at
        /// most 256. Default: all.
        #[key("list of text")]
        #[option("tables", "TABLE,", "tables that statements may name, such as orders, sales.orders or sales.*", under "Settings of databases")]
        #[serde(deserialize_with = "databases::names", skip_serializing_if = "Option::is_none")]
        pub tables: Option<BTreeSet<NamePattern>>,
        /// PostgreSQL and MySQL: the functions that statements may call beside
        /// [the server's own](../guides/databases.md#rules-on-statements), such as `slugify`, `app.slugify` or `app.*`; at most 256.
        /// With this, `statements` or `tables`, all others are refused.
        #[key("list of text")]
        #[option("functions", "FUNCTION,", "functions that statements may call beside the server's own: slugify or app.*", under "Settings of databases")]
        #[serde(deserialize_with = "databases::names", skip_serializing_if = "Option::is_none")]
        pub functions: Option<BTreeSet<NamePattern>>,
        /// PostgreSQL: the role that sessions begin with, as `SET ROLE` does. Agents cannot change it in sessions that are
        /// read-only or have rules on statements.
        #[key("text")]
        #[option("role", "ROLE", "role that sessions begin with, as by SET ROLE", under "Settings of databases")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub role: Option<RoleName>,
        /// PostgreSQL: the rows that a session may get for one request, 1 or more. The session ends with the next.
        #[key("count")]
        #[option("rows-max", "N", "rows of one answer, at most", under "Settings of databases")]
        #[serde(deserialize_with = "databases::rows_max", skip_serializing_if = "Option::is_none")]
        pub rows_max: Option<u64>,
        /// PostgreSQL: the bytes that a session may get for one request, 1000 or more. The session ends with the next
        /// message.
        #[key("count of bytes")]
        #[option("bytes-max", "N", "bytes of one answer, at most", under "Settings of databases")]
        #[serde(deserialize_with = "databases::bytes_max", skip_serializing_if = "Option::is_none")]
        pub bytes_max: Option<u64>,
        /// PostgreSQL, MySQL and Bolt: each statement is written to the audit log, with `?` for its literals.
        #[key("`true` or `false`")]
        #[option("audit-statements", "BOOL", "record statements in the audit log, without their literals", under "Settings of databases")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub audit_statements: Option<bool>,
    }
}

/// What connections of a provider are used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectionUsage {
    /// Requests over HTTP, or logins that an SSH key signs.
    Requests,
    /// Sessions with databases.
    Sessions(DatabaseProtocol),
    /// Files on the agent's machine.
    Files,
}

section! {
    /// When a request is retried: if it is idempotent (RFC 9110 §9.2.2) and has no body or a short one, or if no
    /// byte of it was sent.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Retry {
        /// How often a request is sent at most, the first attempt included; 1 to 10.
        #[key("count, 1 or more", "3")]
        #[option("retry", "N", "send a request up to N times, where it is idempotent or was not sent", under "Settings")]
        #[serde(deserialize_with = "attempts")]
        attempts: u32,
        /// Response statuses that are retried: 408, 409, 425, 429 and 5xx. An unreachable upstream is always
        /// retried.
        #[key("list of statuses", "[429, 502, 503, 504]")]
        #[option("retry-on", "STATUS,", "answers after which it is sent again; default: 429,502,503,504", under "Settings")]
        #[serde(deserialize_with = "statuses")]
        on: Vec<u16>,
        /// The longest wait between two attempts, up to 1h. A response whose `Retry-After` is longer is passed
        /// on.
        #[key("time", "30s")]
        #[option("retry-wait-max", "TIME", "longest wait between two attempts; default: 30s", under "Settings")]
        wait_max: Wait,
    }
}

impl SharedDefault for Settings {
    fn shared() -> &'static Self {
        static NONE: LazyLock<Settings> = LazyLock::new(Settings::default);
        &NONE
    }
}

/// A duration between 10 ms and 1 h, in whole milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wait(Duration);

/// A number of requests per period.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    count: u32,
    per: Per,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Per {
    Second,
    Minute,
    Hour,
}

impl Settings {
    /// Fills unset values from `base`. Fields are merged by name.
    pub fn with_defaults(&self, base: &Self) -> Self {
        Self {
            timeout: self.timeout.or(base.timeout),
            retry: self.retry.clone().or_else(|| base.retry.clone()),
            rate_limit: self.rate_limit.or(base.rate_limit),
            concurrency: self.concurrency.or(base.concurrency),
            user_agent: self.user_agent.clone().or_else(|| base.user_agent.clone()),
            headers: self.headers.with_defaults(&base.headers),
            upgrades: self.upgrades.clone().or_else(|| base.upgrades.clone()),
            read_only: self.read_only.or(base.read_only),
            statement_timeout: self.statement_timeout.or(base.statement_timeout),
            statements: self.statements.clone().or_else(|| base.statements.clone()),
            tables: self.tables.clone().or_else(|| base.tables.clone()),
            functions: self.functions.clone().or_else(|| base.functions.clone()),
            role: self.role.clone().or_else(|| base.role.clone()),
            rows_max: self.rows_max.or(base.rows_max),
            bytes_max: self.bytes_max.or(base.bytes_max),
            audit_statements: self.audit_statements.or(base.audit_statements),
        }
    }

    /// The first setting that has no effect on connections of a provider.
    ///
    /// # Panics
    /// When settings have no JSON, in which they are stored.
    pub fn without_effect(&self, usage: ConnectionUsage) -> Option<&'static str> {
        let set = serde_json::to_value(self).expect("they are stored as JSON");
        let mut names = Self::keys().into_iter().map(|key| key.name);
        names.find(|name| set.get(name).is_some() && !Self::has_effect(name, usage))
    }

    /// Whether connections of a provider have a setting: databases those of databases that their protocol has, files
    /// `read_only`, and any other those of requests.
    pub fn has_effect(name: &str, usage: ConnectionUsage) -> bool {
        let has = |setting: fn(DatabaseProtocol) -> bool| match usage {
            ConnectionUsage::Sessions(protocol) => setting(protocol),
            ConnectionUsage::Requests | ConnectionUsage::Files => false,
        };
        match name {
            "read_only" => usage != ConnectionUsage::Requests,
            "statement_timeout" => has(DatabaseProtocol::has_statement_timeout),
            "statements" | "tables" | "functions" => has(DatabaseProtocol::has_statement_rules),
            "audit_statements" => has(DatabaseProtocol::has_statements),
            "role" => has(DatabaseProtocol::has_role),
            "rows_max" | "bytes_max" => has(DatabaseProtocol::has_answer_limits),
            _ => usage == ConnectionUsage::Requests,
        }
    }

    /// Whether sessions have rules on their statements.
    pub fn has_statement_rules(&self) -> bool {
        self.statements.is_some() || self.tables.is_some() || self.functions.is_some()
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Retry {
    /// How often a request is sent at most.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether a response with this status is retried.
    pub fn applies_to(&self, status: u16) -> bool {
        self.on.contains(&status)
    }

    /// The statuses that are retried, ascending.
    pub fn statuses(&self) -> &[u16] {
        &self.on
    }

    /// The longest wait between two attempts.
    pub fn wait_max(&self) -> Duration {
        self.wait_max.0
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, on: vec![429, 502, 503, 504], wait_max: Wait(Duration::from_secs(30)) }
    }
}

impl Wait {
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Wait {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let time = parse_duration(text).map_err(|_| SettingsError::Wait)?;
        match (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&time) {
            true => Ok(Self(Duration::new(time.as_secs(), time.subsec_millis() * 1_000_000))),
            false => Err(SettingsError::Wait),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration(self.0))
    }
}

impl Rate {
    /// At most `count` requests per minute; at least one.
    pub fn per_minute(count: u32) -> Self {
        Self { count: count.max(1), per: Per::Minute }
    }

    /// At most `count` requests per hour; at least one.
    pub fn per_hour(count: u32) -> Self {
        Self { count: count.max(1), per: Per::Hour }
    }

    /// How many requests are allowed within [`Rate::period`].
    pub fn count(self) -> u32 {
        self.count
    }

    pub fn period(self) -> Duration {
        Duration::from_secs(match self.per {
            Per::Second => 1,
            Per::Minute => 60,
            Per::Hour => 3600,
        })
    }
}

impl FromStr for Rate {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let (count, per) = text.split_once('/').ok_or(SettingsError::Rate)?;
        let per = match per.trim() {
            "s" => Per::Second,
            "m" | "min" => Per::Minute,
            "h" => Per::Hour,
            _ => return Err(SettingsError::Rate),
        };
        let count = count.trim();
        // Rust would parse `+5` as a number.
        let digits = count.bytes().all(|b| b.is_ascii_digit());
        match count.parse() {
            Ok(count @ 1..=1_000_000) if digits => Ok(Self { count, per }),
            _ => Err(SettingsError::Rate),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Per::Second => "s",
            Per::Minute => "min",
            Per::Hour => "h",
        };
        write!(f, "{}/{per}", self.count)
    }
}

/// Checks that a retry after this status makes sense: the failure is temporary and not caused by the request.
fn status(of: u64) -> Result<u16, SettingsError> {
    match u16::try_from(of) {
        Ok(status @ (408 | 409 | 425 | 429 | 500..=599)) => Ok(status),
        status => Err(SettingsError::Status(status.unwrap_or(u16::MAX))),
    }
}

/// Serde adapter: how often a request is sent, 1 to 10.
fn attempts<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    match u32::try_from(u64::deserialize(d)?) {
        Ok(count @ 1..=10) => Ok(count),
        _ => Err(D::Error::custom(SettingsError::Attempts)),
    }
}

/// Serde adapter: exchanges at once, 1 to 100000.
fn concurrency<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    let given = Option::<u64>::deserialize(d)?.map(u32::try_from).transpose();
    match given {
        Ok(None) => Ok(None),
        Ok(Some(count @ 1..=100_000)) => Ok(Some(count)),
        _ => Err(D::Error::custom(SettingsError::Concurrency)),
    }
}

fn statuses<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u16>, D::Error> {
    let given = Vec::<u64>::deserialize(d)?;
    let statuses: Result<Vec<u16>, _> = given.into_iter().map(status).collect();
    let mut statuses = statuses.map_err(D::Error::custom)?;
    statuses.sort_unstable();
    statuses.dedup();
    Ok(statuses)
}

/// Parses text while deserializing.
fn parsed<'de, D, T>(d: D, wanted: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = SettingsError>,
{
    struct Text<T>(&'static str, std::marker::PhantomData<T>);
    impl<T: FromStr<Err = SettingsError>> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    d.deserialize_str(Text(wanted, std::marker::PhantomData))
}

macro_rules! as_text {
    ($($type:ty: $wanted:literal),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                parsed(d, $wanted)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $wanted })
            }
        }
    )*};
}

as_text! {
    Wait: "a time with its unit, such as 30s",
    Rate: "a rate, such as 100/min",
    FieldText: "text",
    RoleName: "the name of a role",
    NamePattern: "a name, such as orders, sales.orders or sales.*"
}

#[cfg(test)]
mod tests;
