//! Pages about the state of a consent.

use super::html::HtmlPage;

/// The interval at which the page of an unfinished consent looks for its result.
const RELOAD_SECONDS: u32 = 5;

/// The page of a consent without a result. It loads itself again.
pub(super) fn unfinished() -> HtmlPage {
    HtmlPage::new("Not finished")
        .text("This consent is not finished yet. This page shows the result when there is one.")
        .reload_after(RELOAD_SECONDS)
}

/// The page that asks whether another account than before is wanted.
pub(super) fn confirmation(before: &str, account: Option<&str>) -> HtmlPage {
    let (said, now) = match account {
        Some(account) => ("You consented with another account than this connection had.", account),
        None => (
            "The provider does not say which account you consented with. It may be another than this \
             connection had.",
            "unknown",
        ),
    };
    HtmlPage::new("Another account")
        .text(said)
        .fact("Connected so far", before)
        .fact("Now", now)
        .text("Agents that use this connection would act as the new one.")
        .button("Use the new account", "?accept=yes")
        .button("Keep the old one", "?accept=no")
}
