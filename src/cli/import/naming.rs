//! [`names_of`]: the names that an import gives to the connection of an account.

use super::logins;
use super::recognise::FoundAccount;

/// The provider, with the group where it is a profile; then the same with a number.
pub(super) fn names_of(account: &FoundAccount) -> impl Iterator<Item = String> {
    let is_plain = |group: &str| group.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let base = match account.group.as_str() {
        "default" | "environment" | "gh" | "gcloud" | logins::CODEX => account.provider.clone(),
        profile if is_plain(profile) => format!("{}-{profile}", account.provider),
        _ => account.provider.clone(),
    };
    let first = base.clone();
    std::iter::once(first).chain((2..).map(move |number| format!("{base}-{number}")))
}
