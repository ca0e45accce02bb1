//! What labels and environments may be: people read them in tables and logs.

use std::collections::BTreeMap;

use super::refusal::Refusal;

const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 64;

/// Whether it is printable and short enough.
pub fn is_label(text: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Checks free labels.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let all = labels.iter().all(|(name, value)| is_label(name) && is_label(value));
    match all && labels.len() <= LABELS_MAX {
        true => Ok(()),
        false => {
            Err(Refusal::new("labels", "must be at most 64, each side 1 to 64 printable bytes"))
        }
    }
}

/// Checks the name of an environment.
pub(crate) fn environment(environment: Option<&str>) -> Result<(), Refusal> {
    match environment.is_none_or(is_label) {
        true => Ok(()),
        false => {
            let rule = "must be 1 to 64 printable bytes, such as `production`";
            Err(Refusal::new("environment", rule))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_environments_are_bounded_and_printable() {
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        for (name, value) in [("", "x"), ("x", ""), ("a\u{1b}[0m", "x"), ("x", &"x".repeat(65))] {
            assert!(labels(&one(name, value)).is_err(), "{name:?} {value:?}");
        }
        let many: BTreeMap<_, _> = (0..65).map(|n| (n.to_string(), "x".to_owned())).collect();
        assert!(labels(&many).is_err());
        assert!(labels(&one("team", "B\u{e4}ren")).is_ok());
        assert!(environment(Some("")).is_err() && environment(Some("a\n")).is_err());
        assert!(environment(None).is_ok() && environment(Some("production")).is_ok());
    }
}
