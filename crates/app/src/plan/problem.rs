//! Builds problems of a plan from texts that contain their place.

use std::error::Error;

use crate::error::is_away;
use keyward_api::wire::PlanProblem;
use keyward_rules::provider::document::Problem;

/// A name that neither the file nor the store has. For a check of the file alone it is no problem: the store may have it.
#[derive(Clone, Debug)]
pub(crate) struct AbsentName {
    /// `connection`, as in messages.
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// The most similar existing name.
    pub(super) nearest: Option<String>,
    /// What a plan reports. Boxed: it is large for an error.
    pub(super) problem: Box<Problem>,
}

impl AbsentName {
    /// What a check of the file alone reports.
    pub(crate) fn note(&self) -> Problem {
        let Self { kind, name, nearest, problem } = self;
        Problem {
            message: format!("{kind} `{name}` is not in this file"),
            remedy: nearest.as_deref().map(did_you_mean).unwrap_or_default(),
            ..Problem::clone(problem)
        }
    }

    /// Whether another process reports this name in its plan of the same file.
    pub(crate) fn is_reported_by(&self, other: &PlanProblem) -> bool {
        let Problem { line, path, message, .. } = &*self.problem;
        let quoted = format!("`{}`", self.name);
        // The rest is the remedy, which depends on other names.
        let told = message.split_once(&quoted).map_or(&**message, |(before, _)| before);
        other.line == *line
            && other.path.as_deref().unwrap_or_default() == path.as_str()
            && other.message.strip_prefix(told).is_some_and(|rest| rest.starts_with(&quoted))
    }
}

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
        is_away: false,
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
        is_away: false,
    }
}

/// The remedy for a misspelt name.
pub(super) fn did_you_mean(near: &str) -> String {
    format!("did you mean `{near}`?")
}

/// The problem that this error caused, with its class.
pub(crate) fn caused_by(error: &(dyn Error + 'static), problem: Problem) -> Problem {
    Problem { is_away: is_away(error), ..problem }
}
