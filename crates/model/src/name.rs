//! Checks names and labels of resources.

use std::collections::BTreeMap;
use std::iter;

use keyward_base::id::is_like_an_id;

use super::refusal::Refusal;

const NAME_BYTES_MAX: usize = 64;

/// Labels of one resource.
const LABELS_MAX: usize = 64;

/// Checks a name that is used in paths of the admin API. Resources are found by name or id, so no name may look
/// like an id; `..` would change the path.
///
/// # Errors
/// When it is no such name.
pub fn plain(name: &str) -> Result<(), Refusal> {
    of_characters(name, "letters, digits or `-_.`", |b| matches!(b, b'-' | b'_' | b'.'))
}

/// Checks an agent's name, which is also used in proxy URLs: unreserved characters only (RFC 3986 §2.3).
pub(crate) fn unreserved(name: &str) -> Result<(), Refusal> {
    of_characters(name, "letters, digits or `-._~`", |b| matches!(b, b'-' | b'.' | b'_' | b'~'))
}

/// Longest name of an end user: room for the id of any identity provider, such as `auth0|…` or an email address.
const EXTERNAL_BYTES_MAX: usize = 128;

/// Checks the name of an end user, which the platform chooses: an id of its own, a UUID, an email address. Refused
/// are characters with a meaning in paths, lists, quoted text and HTML.
pub(crate) fn external(name: &str) -> Result<(), Refusal> {
    let is_plain = |b: u8| b.is_ascii_graphic() && !b"/\\:,\"`<>".contains(&b);
    let is_name = (1..=EXTERNAL_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && name.bytes().any(|b| b != b'.')
        && !is_like_an_id(name);
    let rule = "must be 1 to 128 visible ASCII characters without `/ \\ : , \" ` < >`, not like an id of \
                Keyward (`usr_…`) and not only dots";
    Refusal::unless(is_name, "name", rule)
}

fn of_characters(name: &str, words: &str, is_mark: fn(u8) -> bool) -> Result<(), Refusal> {
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || is_mark(b))
        && name.bytes().any(|b| b != b'.')
        && !is_like_an_id(name);
    let rule = format!("must be 1 to 64 {words}, not an id and not only dots");
    Refusal::unless(is_name, "name", rule)?;
    let rule = "must not begin with `-`: a command would read it as an option";
    Refusal::unless(!name.starts_with('-'), "name", rule)
}

/// Whether a label is printable and short enough: labels are shown in tables and logs.
pub fn is_label(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// Checks the name of an environment, such as `production`.
pub(crate) fn environment(environment: Option<&str>) -> Result<(), Refusal> {
    let rule = "must be 1 to 64 printable characters";
    Refusal::unless(environment.is_none_or(is_label), "environment", rule)
}

/// Everything that is wrong with free labels. A refusal repeats a label's name only if that is printable.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> Vec<Refusal> {
    let rule = format!("must be {LABELS_MAX} or fewer");
    let count = Refusal::unless(labels.len() <= LABELS_MAX, "labels", rule);
    let each = labels.iter().map(|(name, value)| match (is_label(name), is_label(value)) {
        (true, true) => Ok(()),
        (true, false) => {
            Err(Refusal::new(format!("labels.{name}"), "must be 1 to 64 printable bytes"))
        }
        (false, _) => Err(Refusal::new("labels", "must have names of 1 to 64 printable bytes")),
    });
    iter::once(count).chain(each).filter_map(Result::err).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_ids_or_paths_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "ä", "org_acme", "hny_x", "a~", &"a".repeat(65)] {
            assert_eq!(unreserved(bad).is_ok(), bad == "a~", "{bad}");
            let refused = plain(bad).unwrap_err();
            assert!(refused.to_string().starts_with("`name` must be 1 to 64"), "{bad}: {refused}");
        }
        for bad in ["-x", "-", "--help"] {
            for refused in [plain(bad).unwrap_err(), unreserved(bad).unwrap_err()] {
                assert!(refused.to_string().starts_with("`name` must not begin with"), "{refused}");
            }
        }
        for good in ["a", "a.b", "..a", "A-1_b", &"a".repeat(64)] {
            assert_eq!((plain(good), unreserved(good)), (Ok(()), Ok(())), "{good}");
        }
        assert!(plain("a~b").is_err() && unreserved("a~b").is_ok());
    }

    #[test]
    fn names_of_end_users_are_ids_of_platforms_without_separators() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a\\b",
            "a:b",
            "a,b",
            "a b",
            "a\"b",
            "a`b",
            "<b>",
            "\u{e4}",
            "a\n",
            "usr_42",
            "org_x",
            &"a".repeat(129),
        ] {
            let refused = external(bad).unwrap_err();
            assert!(refused.to_string().starts_with("`name` must be 1 to 128"), "{bad}: {refused}");
        }
        for good in [
            "42",
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "o'brien+x@example.com",
            "user_2abc",
            "a%2Fb",
            "a?b#c",
            "123e4567-e89b-12d3-a456-426614174000",
            &"a".repeat(128),
        ] {
            assert_eq!(external(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn labels_and_environments_are_bounded_and_printable() {
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let long = "x".repeat(65);
        for (name, value, field) in [
            ("", "x", "labels"),
            ("a\u{1b}[0m", "x", "labels"),
            (&*long, "x", "labels"),
            ("x", "", "labels.x"),
            ("x", &*long, "labels.x"),
        ] {
            let refused = labels(&one(name, value));
            assert_eq!(refused.len(), 1, "{name:?} {value:?}");
            assert_eq!(refused[0].field, field, "{name:?} {value:?}");
        }
        let many: BTreeMap<_, _> = (0..65).map(|n| (n.to_string(), "x".to_owned())).collect();
        assert_eq!(labels(&many).len(), 1);
        assert_eq!(labels(&one("team", "B\u{e4}ren")), []);
        assert!(environment(Some("")).is_err() && environment(Some("a\n")).is_err());
        assert!(environment(None).is_ok() && environment(Some("production")).is_ok());
    }
}
