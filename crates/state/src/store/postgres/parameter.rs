//! [`Parameter`]: values with their types, for statements that are not prepared. A pooler such as PgBouncer may send each
//! statement to another session, in which a prepared statement of that name is missing, or is a different one.

use tokio_postgres::types::{ToSql, Type};

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
