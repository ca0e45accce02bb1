//! Problems of a plan, from the texts that name their places.

use keyward_rules::provider::document::Problem;

/// A problem at `place`, which is `keyward.yaml:12: connections[0]`.
pub(crate) fn problem(
    place: &str,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Problem {
    let (origin, path) = place.split_once(": ").unwrap_or((place, ""));
    let line = origin.rsplit_once(':').and_then(|(_, line)| line.parse().ok());
    Problem {
        origin: origin.to_owned(),
        line,
        path: path.to_owned(),
        message: message.into(),
        remedy: remedy.into(),
    }
}

/// A problem whose text names what is wrong, before the first colon.
pub(crate) fn unplaced(text: &str) -> Problem {
    let (origin, message) = text.split_once(": ").unwrap_or(("configuration", text));
    Problem {
        origin: origin.to_owned(),
        line: None,
        path: String::new(),
        message: message.to_owned(),
        remedy: String::new(),
    }
}
