//! [`SettingsError`]: why a setting of a connection is invalid.

/// Why a setting is invalid. The message describes valid values and never quotes the given one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// Not a duration, or out of bounds.
    #[error(
        "this is not a time from 10ms to 1h: write a number and a unit, such as 500ms, 30s or 2m"
    )]
    Wait,
    /// Not a rate.
    #[error(
        "this is not a rate: write 1 to 1000000 and a unit of time, such as 10/s, 100/min or 5000/h"
    )]
    Rate,
    /// The number of attempts is out of bounds.
    #[error("this is not a number of attempts: write 1 to 10")]
    Attempts,
    /// A status after which a retry does not help.
    #[error(
        "a request is not sent again after {0}: name some of 408, 409, 425, 429 and 500 to 599"
    )]
    Status(u16),
    /// The concurrency is out of bounds.
    #[error("this is not a number of exchanges at once: write 1 to 100000")]
    Concurrency,
    /// Not a valid field value.
    #[error("this is not a value of a field: write 1 to 1024 characters of visible ASCII")]
    FieldText,
    /// Not a valid field name.
    #[error("`{0}` is no name of a field: write letters, digits and `-`")]
    FieldName(String),
    /// A field that a connection must not set.
    #[error("field `{name}` cannot be set here: {why}")]
    FieldReserved {
        name: String,
        /// Which part of the request owns the field.
        why: &'static str,
    },
    /// Not the name of a role.
    #[error("this is not a role: write its name, of 1 to 63 bytes, and not `none`")]
    Role,
    /// Not a table or a function.
    #[error(
        "this is not a name: write it with its schema where statements name that, such as orders, sales.orders or sales.*"
    )]
    Name,
    /// More tables or functions than allowed.
    #[error("there are more than {0} names: name schemas, such as sales.*")]
    TooManyNames(usize),
    /// The number of rows is out of bounds.
    #[error("this is not a number of rows: write 1 or more")]
    Rows,
    /// The number of bytes is out of bounds.
    #[error("this is not a number of bytes: write 1000 or more")]
    Bytes,
    /// More fields than allowed.
    #[error("there are more than {0} fields: remove some")]
    TooManyFields(usize),
}
