//! What names may be.

use keyward_base::id::is_like_an_id;

use super::refusal::Refusal;

const NAME_BYTES_MAX: usize = 64;

/// Checks a name that stands in paths of the admin API: things are found by name or id, so no name may look
/// like an id; `..` would climb in a path.
pub(crate) fn plain(name: &str) -> Result<(), Refusal> {
    of_characters(name, "letters, digits or `-_.`", |b| matches!(b, b'-' | b'_' | b'.'))
}

/// The same of an agent's name, which also stands in proxy URLs: RFC 3986 §2.3, unreserved characters.
pub(crate) fn unreserved(name: &str) -> Result<(), Refusal> {
    of_characters(name, "letters, digits or `-._~`", |b| matches!(b, b'-' | b'.' | b'_' | b'~'))
}

fn of_characters(name: &str, words: &str, is_mark: fn(u8) -> bool) -> Result<(), Refusal> {
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || is_mark(b))
        && name.bytes().any(|b| b != b'.')
        && !is_like_an_id(name);
    match is_name {
        true => Ok(()),
        false => {
            let rule = format!("must be 1 to 64 {words}, not an id and not only dots");
            Err(Refusal::new("name", rule))
        }
    }
}

/// Checks a label such as `production`. Printable: it is shown in tables and logs.
pub(crate) fn environment(environment: Option<&str>) -> Result<(), Refusal> {
    let is_label =
        |text: &str| (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
    match environment.is_none_or(is_label) {
        true => Ok(()),
        false => Err(Refusal::new("environment", "must be 1 to 64 printable characters")),
    }
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
        for good in ["a", "a.b", "..a", "A-1_b", &"a".repeat(64)] {
            assert_eq!((plain(good), unreserved(good)), (Ok(()), Ok(())), "{good}");
        }
        assert!(plain("a~b").is_err() && unreserved("a~b").is_ok());
    }
}
