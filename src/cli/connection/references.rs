//! Fields whose values are kept in secret sources: `--secret-from FIELD=SOURCE:REF`, and what is shown of them.

use std::time::Duration;

use jiff::Timestamp;

use keyward_base::time::format_duration;
use keyward_model::{Connection, Failures, FetchedView, FieldReference, References, Shown};

use crate::cli::table::moment;

/// `FIELD=SOURCE:REF` of an argument.
pub(in crate::cli) fn argument(text: &str) -> Result<(String, FieldReference), String> {
    let parts = text.split_once('=').and_then(|(field, rest)| {
        let (from, reference) = rest.split_once(':')?;
        Some((field, from, reference))
    });
    match parts {
        Some((field, from, reference)) if ![field, from, reference].contains(&"") => {
            let (from, reference) = (from.to_owned(), reference.to_owned());
            Ok((field.to_owned(), FieldReference { from, reference }))
        }
        _ => Err("write FIELD=SOURCE:REF, such as api_key=vault:apps/openai#key".to_owned()),
    }
}

/// The rows of `connection show`.
pub(super) fn rows(connection: &Shown<Connection>) -> Vec<(&'static str, String)> {
    let facts = &connection.facts;
    vec![
        ("by reference", named(&connection.references)),
        ("fetched", fetched(facts.fetched.as_ref())),
        ("fetching fails", failing(facts.fetch_failing.as_ref())),
    ]
}

/// Which fields are where.
pub(in crate::cli) fn named(references: &References) -> String {
    let references = references.iter();
    let references = references.map(|(field, FieldReference { from, reference })| {
        format!("{field} from {from}: {reference}")
    });
    references.collect::<Vec<_>>().join(", ")
}

/// When the values were fetched, and how long they are used.
pub(in crate::cli) fn fetched(fetched: Option<&FetchedView>) -> String {
    let Some(it) = fetched else { return String::new() };
    let (at, kept) = (moment(it.at), moment(it.kept_until));
    let age = u64::try_from(Timestamp::now().duration_since(it.at).as_secs()).unwrap_or_default();
    let age = format_duration(Duration::from_secs(age));
    format!("{at}, {age} ago; used until {kept} if the source cannot be asked")
}

/// Failures since then.
pub(in crate::cli) fn failing(failing: Option<&Failures>) -> String {
    let Some(it) = failing else { return String::new() };
    let message = it.message.as_deref().unwrap_or("no answer");
    format!("since {}, {} in a row: {message}", moment(it.since), it.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_field_a_source_and_a_value() {
        for bad in ["", "token", "token=vault", "=vault:a", "token=:a", "token=vault:"] {
            assert!(argument(bad).is_err(), "{bad}");
        }
        let (field, found) = argument("token=op:op://dev/github/token=x:1").unwrap();
        assert_eq!((&*field, &*found.from), ("token", "op"));
        assert_eq!(found.reference, "op://dev/github/token=x:1");
    }
}
