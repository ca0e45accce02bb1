//! The statements. A statement that changes a row also increments the counter of its part of the table and logs its
//! key. The row of the counter is locked until the statement commits, so numbers become visible in order and without
//! gaps. A reader that has seen number 7 never gets a 6 later, as it would with a sequence.
//!
//! A commit of several rows is a transaction: it changes all rows and then increments the counters, both in one order, so
//! that two commits do not wait for each other.
//!
//! [`Parameter`]: values with their types, for statements that are not prepared. A pooler such as PgBouncer may send each
//! statement to another session, in which a prepared statement of that name is missing, or is a different one.

use tokio_postgres::types::{ToSql, Type};

/// A change of a row. `$1`: table, `$2`: key, `$3`: value, `$4`: version, `$5`: the part of the table; a statement may leave
/// some of them out.
pub(super) struct RowChange {
    /// Changes the row in a transaction, which counts it with [`COUNT`]. Returns its version, if it was changed.
    pub(super) alone: &'static str,
    /// Changes and counts the row. Returns also number and time of the change.
    pub(super) counted: &'static str,
}

macro_rules! row_change {
    ($change:literal) => {
        RowChange {
            alone: concat!($change, " RETURNING version"),
            counted: concat!(
                "WITH done AS (",
                $change,
                " RETURNING version), counted AS (UPDATE keyward_counts SET n = n + 1 \
                 WHERE tbl = $1 AND part = $5 AND EXISTS (SELECT 1 FROM done) RETURNING n), \
                 logged AS (INSERT INTO keyward_changes (tbl, part, n, key) \
                 SELECT $1, $5, counted.n, $2 FROM counted \
                 RETURNING n, (extract(epoch FROM at) * 1000000)::bigint AS made) \
                 SELECT done.version, logged.n, logged.made FROM done, logged"
            ),
        }
    };
}

/// `$1`: table, `$2`: key, `$3`: part. Returns number and time of the change.
pub(super) const COUNT: &str = "WITH counted AS (UPDATE keyward_counts SET n = n + 1 \
     WHERE tbl = $1 AND part = $3 RETURNING n) \
     INSERT INTO keyward_changes (tbl, part, n, key) SELECT $1, $3, counted.n, $2 FROM counted \
     RETURNING n, (extract(epoch FROM at) * 1000000)::bigint";

/// Whether a statement changes nothing. All others begin with the name of a change, or with `WITH`.
pub(super) fn only_reads(statement: &str) -> bool {
    statement.starts_with("SELECT ")
}

pub(super) const GET: &str = "SELECT version, value FROM keyward_rows WHERE tbl = $1 AND key = $2";

pub(super) const INSERT: RowChange = row_change!(
    "INSERT INTO keyward_rows (tbl, key, version, value) VALUES ($1, $2, 1, $3) \
     ON CONFLICT (tbl, key) DO NOTHING"
);

pub(super) const UPSERT: RowChange = row_change!(
    "INSERT INTO keyward_rows (tbl, key, version, value) VALUES ($1, $2, 1, $3) \
     ON CONFLICT (tbl, key) DO UPDATE SET value = excluded.value, version = keyward_rows.version + 1"
);

pub(super) const UPDATE: RowChange = row_change!(
    "UPDATE keyward_rows SET value = $3, version = version + 1 \
     WHERE tbl = $1 AND key = $2 AND version = $4"
);

pub(super) const LOAD: RowChange = row_change!(
    "INSERT INTO keyward_rows (tbl, key, version, value) VALUES ($1, $2, $4, $3) \
     ON CONFLICT (tbl, key) DO NOTHING"
);

pub(super) const DELETE_ANY: RowChange =
    row_change!("DELETE FROM keyward_rows WHERE tbl = $1 AND key = $2");

pub(super) const DELETE: RowChange =
    row_change!("DELETE FROM keyward_rows WHERE tbl = $1 AND key = $2 AND version = $4");

/// The row is not deleted before the transaction ends.
pub(super) const KEEP_ROW: &str =
    "SELECT version FROM keyward_rows WHERE tbl = $1 AND key = $2 FOR SHARE";

/// `$2`: first key, `$3`: the key after the last one.
pub(super) const ONE_BELOW: &str =
    "SELECT version FROM keyward_rows WHERE tbl = $1 AND key >= $2 AND key < $3 LIMIT 1";

/// `$3`: version, `$4`: the present value, `$5`: the new one. Not counted: the content is the same.
pub(super) const RESEAL: &str = "UPDATE keyward_rows SET value = $5 \
     WHERE tbl = $1 AND key = $2 AND version = $3 AND value = $4 RETURNING version";

/// `$2`: first key, `$3`: the key after the last one, `$4`: limit.
pub(super) const LIST: &str = "SELECT key, version, value FROM keyward_rows \
     WHERE tbl = $1 AND key >= $2 AND key < $3 ORDER BY key LIMIT $4";

/// The same rows without values.
pub(super) const LIST_KEYS: &str = "SELECT key, version FROM keyward_rows \
     WHERE tbl = $1 AND key >= $2 AND key < $3 ORDER BY key LIMIT $4";

pub(super) const ALL: &str = "SELECT tbl, key, version, value FROM keyward_rows";

/// A statement about a lease whose holder (`$2`) is present: its replica has the same upper half of its number. So the
/// presence lasts for 15 seconds at least after a lease was taken or renewed.
macro_rules! of_present {
    ($statement:literal) => {
        concat!(
            "WITH present AS (UPDATE keyward_leases \
             SET until = now() + interval '20 seconds' \
             WHERE name >= 'replica/' AND name < 'replica0' AND holder >> 32 = $2::bigint >> 32 \
             AND until < now() + interval '15 seconds') ",
            $statement
        )
    };
}

/// `$1`: name, `$2`: number of the holder, `$3`: seconds, `$4`: the replica with which the lease ends. The database's
/// clock counts for every replica. A replica of an earlier version replaces the holder alone.
pub(super) const LEASE: &str = of_present!(
    "INSERT INTO keyward_leases AS held (name, holder, until, replica) \
     VALUES ($1, $2, now() + $3::float8 * interval '1 second', $4) \
     ON CONFLICT (name) DO UPDATE \
     SET holder = excluded.holder, until = excluded.until, replica = excluded.replica \
     WHERE held.until <= now() OR held.holder >> 32 = held.replica >> 32 AND NOT EXISTS ( \
     SELECT 1 FROM keyward_leases AS its WHERE its.name >= 'replica/' AND its.name < 'replica0' \
     AND its.holder = held.replica AND its.until > now()) RETURNING holder"
);

/// The lease of a replica, whose name no other process uses.
pub(super) const PRESENT: &str = "INSERT INTO keyward_leases (name, holder, until) \
     VALUES ($1, $2, now() + $3::float8 * interval '1 second') \
     ON CONFLICT (name) DO UPDATE SET until = excluded.until RETURNING holder";

/// Also renews an expired lease: as long as the row has the holder's random number, no other holder had the name.
/// Another holder replaces the number, and deletes the row when it releases the lease.
pub(super) const RENEW: &str = of_present!(
    "UPDATE keyward_leases SET until = now() + $3::float8 * interval '1 second' \
     WHERE name = $1 AND holder = $2 RETURNING holder"
);

/// `$1`: name of a replica that has ended.
pub(super) const END: &str = "DELETE FROM keyward_leases \
     WHERE name = $1 AND name >= 'replica/' AND name < 'replica0'";

pub(super) const RELEASE: &str = "DELETE FROM keyward_leases WHERE name = $1 AND holder = $2";

/// The counters; and, with an empty name, the oldest version whose programs may use the tables.
pub(super) const COUNTS: &str = "SELECT tbl, part, n FROM keyward_counts \
     UNION ALL SELECT '', 0::smallint, oldest_program::bigint FROM keyward_schema WHERE id = 1";

/// `$1`: table, `$2`: part, `$3` and `$4`: the first and the last number, `$5`: limit.
pub(super) const CHANGES: &str = "SELECT n, key, (extract(epoch FROM at) * 1000000)::bigint \
     FROM keyward_changes \
     WHERE tbl = $1 AND part = $2 AND n BETWEEN $3 AND $4 ORDER BY n LIMIT $5";

/// The last change of each part.
pub(super) const LAST_CHANGES: &str = "SELECT tbl, part, n, \
     (extract(epoch FROM at) * 1000000)::bigint FROM keyward_counts \
     JOIN keyward_changes USING (tbl, part, n)";

/// Leases of replicas other than `$1`, which have the store open.
pub(super) const OTHERS: &str = "SELECT name FROM keyward_leases \
     WHERE name >= 'replica/' AND name < 'replica0' AND name <> $1 AND until > now() LIMIT 1";

pub(super) const REPLICAS_RUNNING: &str = "SELECT name FROM keyward_leases \
     WHERE name >= 'replica/' AND name < 'replica0' AND until > now() LIMIT 1";

/// `$1`: name of the replica, `$2`: its description.
pub(super) const ANNOUNCE: &str = "INSERT INTO keyward_replicas (name, about, seen) \
     VALUES ($1, $2, now()) \
     ON CONFLICT (name) DO UPDATE SET about = excluded.about, seen = excluded.seen RETURNING name";

pub(super) const REPLICAS: &str = "SELECT name, about, \
     extract(epoch FROM now() - seen)::float8, extract(epoch FROM seen)::float8 FROM keyward_replicas \
     WHERE seen > now() - interval '1 hour' ORDER BY name";

pub(super) const LEAVE: &str = "DELETE FROM keyward_replicas WHERE name = $1";

pub(super) const FORGET_REPLICAS: &str =
    "DELETE FROM keyward_replicas WHERE seen < now() - interval '1 day'";

/// `$1`: name, `$2`: sealed bytes, `$3`: seconds.
pub(super) const KEEP: &str = "INSERT INTO keyward_kept (name, value, until) \
     VALUES ($1, $2, now() + $3::float8 * interval '1 second') \
     ON CONFLICT (name) DO UPDATE SET value = excluded.value, until = excluded.until \
     RETURNING name";

pub(super) const KEPT: &str = "SELECT value FROM keyward_kept WHERE name = $1 AND until > now()";

/// `$1`: first name, `$2`: the name after the last one.
pub(super) const KEPT_NAMES: &str = "SELECT name FROM keyward_kept \
     WHERE name >= $1 AND name < $2 AND until > now() ORDER BY name";

/// `$1`: first name, `$2`: the name after the last one, `$3`: the minimum number of seconds until they expire.
pub(super) const KEPT_WITHIN: &str = "SELECT name, value, extract(epoch FROM until - now())::float8 \
     FROM keyward_kept WHERE name >= $1 AND name < $2 \
     AND until > now() + $3::float8 * interval '1 second'";

pub(super) const FORGET_KEPT: &str = "DELETE FROM keyward_kept WHERE until < now()";

/// The name shows the administrator of the database the purpose of the stream.
pub(super) const LISTEN: &str =
    "SET application_name = 'keyward notifications'; LISTEN keyward_changes";

/// `$1`: name of the replica.
pub(super) const NOTIFY: &str = "SELECT pg_notify('keyward_changes', $1)";

/// Old changes, and leases that ended long ago.
pub(super) const FORGET_CHANGES: &str =
    "DELETE FROM keyward_changes WHERE at < now() - interval '1 hour'";
pub(super) const FORGET_LEASES: &str =
    "DELETE FROM keyward_leases WHERE until < now() - interval '1 hour'";

/// A value for a statement, with its type in PostgreSQL.
pub(super) trait Parameter: Sync {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type);
}

/// Implements [`Parameter`] for Rust types, each with its type in PostgreSQL.
macro_rules! parameters {
    ($($rust:ty: $postgres:ident),* $(,)?) => {$(
        impl Parameter for $rust {
            fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
                (self, Type::$postgres)
            }
        }
    )*};
}

parameters! {
    &str: TEXT,
    String: TEXT,
    Vec<&str>: TEXT_ARRAY,
    &[u8]: BYTEA,
    Vec<u8>: BYTEA,
    i16: INT2,
    i32: INT4,
    i64: INT8,
    Option<i64>: INT8,
    f64: FLOAT8,
}

/// The parameters as the client library takes them.
pub(super) fn typed<'a>(parameters: &[&'a dyn Parameter]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    parameters.iter().map(|parameter| parameter.typed()).collect()
}
