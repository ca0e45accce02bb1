//! What names may be.

use keyward_base::id::is_like_an_id;

use super::refusal::Refusal;

const NAME_BYTES_MAX: usize = 64;

/// Checks a name that stands in paths of the admin API: things are found by name or id, so no name may look
/// like an id; `..` would climb in a path.
pub(crate) fn plain(name: &str) -> Result<(), Refusal> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && name.bytes().any(|b| b != b'.')
        && !is_like_an_id(name);
    match is_name {
        true => Ok(()),
        false => {
            let rule = "must be 1 to 64 letters, digits or `-_.`, not an id and not only dots";
            Err(Refusal::new("name", rule))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_ids_or_paths_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "ä", "org_acme", "hny_x", "a~", &"a".repeat(65)] {
            let refused = plain(bad).unwrap_err();
            assert!(refused.to_string().starts_with("`name` must be 1 to 64"), "{bad}: {refused}");
        }
        for good in ["a", "a.b", "..a", "A-1_b", &"a".repeat(64)] {
            assert_eq!(plain(good), Ok(()), "{good}");
        }
    }
}
