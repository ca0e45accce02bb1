//! What a connection's owner says of it for people, and what is known of its secret without the secret:
//! its age, its end, and a rotation that is under way.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use super::records::ConnectionRecord;
use keyward_model::{Due, DueBy, Reminded, Rotation, optional_duration};

/// Characters of a description or a purpose.
const TEXT_CHARS_MAX: usize = 1024;

/// Tags of one connection.
const TAGS_MAX: usize = 32;

/// Characters of a tag.
const TAG_CHARS_MAX: usize = 64;

/// Shorter, and people would be reminded at all times.
const ROTATE_EVERY_MIN: Duration = Duration::from_secs(86_400);

/// For people. Absent from records of before it existed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct About {
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// To find it by.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
}

/// What is known of a connection's secret. Absent from records of before it existed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SecretFacts {
    /// When it was given; absent: with the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Timestamp>,
    /// When it ends, as its owner says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// How long one is to be used.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
    pub rotate_every: Option<Duration>,
    /// A rotation that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// The last reminder that people were given, in days before it is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reminded: Option<Reminded>,
    /// Whose account it is of, as the provider's answer to a test says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whose: Option<String>,
}

impl About {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it can be shown and stored.
    ///
    /// # Errors
    /// When something is empty, too long, or holds control characters.
    pub fn check(&self) -> Result<(), DirectoryError> {
        let fits = |text: &str, most: usize| {
            (1..=most).contains(&text.chars().count()) && !text.contains(char::is_control)
        };
        let texts = [("description", &self.description), ("purpose", &self.purpose)];
        for (what, text) in texts {
            if text.as_ref().is_some_and(|text| !fits(text, TEXT_CHARS_MAX)) {
                return Err(DirectoryError::TextRefused { what, chars_max: TEXT_CHARS_MAX });
            }
        }
        let tags_fit = self.tags.iter().all(|tag| {
            fits(tag, TAG_CHARS_MAX) && !tag.contains(|c: char| c == ',' || c.is_whitespace())
        });
        match tags_fit && self.tags.len() <= TAGS_MAX {
            true => Ok(()),
            false => Err(DirectoryError::TagsRefused),
        }
    }
}

impl SecretFacts {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether people can be reminded by it.
    ///
    /// # Errors
    /// When it is to be rotated more than once a day.
    pub fn check(&self) -> Result<(), DirectoryError> {
        match self.rotate_every.is_none_or(|every| every >= ROTATE_EVERY_MIN) {
            true => Ok(()),
            false => Err(DirectoryError::RotateEvery),
        }
    }
}

impl ConnectionRecord {
    /// When its secret wants another, and why; `None`: nobody has said.
    pub fn due(&self) -> Option<Due> {
        let expires = self.secret.expires.map(|at| Due { at, why: DueBy::Expires });
        let since = self.secret.rotated.unwrap_or(self.created);
        let old = self.secret.rotate_every.map(|every| Due {
            at: since.checked_add(every).unwrap_or(Timestamp::MAX),
            why: DueBy::RotateEvery,
        });
        expires.into_iter().chain(old).min_by_key(|due| due.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let text = |text: &str| Some(text.to_owned());
        let tag = |tag: &str| BTreeSet::from([tag.to_owned()]);
        for bad in [
            About { description: text(""), ..About::default() },
            About { description: text("a\u{1b}[31m"), ..About::default() },
            About { purpose: text(&"x".repeat(1025)), ..About::default() },
            About { tags: tag(""), ..About::default() },
            About { tags: tag("a,b"), ..About::default() },
            About { tags: tag("a b"), ..About::default() },
            About { tags: tag(&"x".repeat(65)), ..About::default() },
            About { tags: (0..33).map(|n| n.to_string()).collect(), ..About::default() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        let good = About { description: text("été"), purpose: None, tags: tag("team:crm") };
        assert!(good.check().is_ok());
        let hourly = Some(Duration::from_secs(3_600));
        assert!(SecretFacts { rotate_every: hourly, ..SecretFacts::default() }.check().is_err());
    }
}
