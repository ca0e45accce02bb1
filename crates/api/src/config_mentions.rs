//! Refuses to remove or rename what the configuration names: no gateway would start with that configuration again.

use super::error::ApiError;
use super::state::Admin;
use keyward_model::{Record, Resource};
use keyward_state::rulebook::ConfigMention;

/// Refuses to remove what the configuration names.
pub(super) async fn may_be_removed<R: Resource>(
    admin: &Admin,
    record: &Record<R>,
) -> Result<(), ApiError> {
    let mentions = admin.deps().rulebook.mentions(record).await;
    let hint = "change the configuration first: without it, the next start would be refused";
    refused_if_any(record, &mentions, hint)
}

/// Refuses to rename what the configuration names by its name.
pub(super) async fn may_be_renamed<R: Resource>(
    admin: &Admin,
    record: &Record<R>,
) -> Result<(), ApiError> {
    let mut mentions = admin.deps().rulebook.mentions(record).await;
    mentions.retain(|mention| mention.name == record.name());
    let hint = "change the configuration first, or name it there by its id";
    refused_if_any(record, &mentions, hint)
}

fn refused_if_any<R: Resource>(
    record: &Record<R>,
    mentions: &[ConfigMention],
    hint: &str,
) -> Result<(), ApiError> {
    let [first, others @ ..] = mentions else { return Ok(()) };
    let (what, name, place) = (R::KIND.one, record.name(), &first.place);
    let more = match others.len() {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    Err(ApiError::refused(format!("the configuration names {what} `{name}` ({place}{more})"))
        .hint(hint))
}
