//! Values of secret sources that cannot be fetched, in the words of `keyward doctor`.

use crate::cli::settings::Global;
use keyward_model::{Failures, FetchedView, FieldReference};

/// Since when values cannot be fetched, and until when the last ones are used.
pub(super) fn not_fetched(failing: &Failures, fetched: Option<&FetchedView>) -> String {
    let kept = fetched.map_or_else(
        || "no earlier value may be used".to_owned(),
        |it| format!("the last ones are used until {:.0}", it.kept_until),
    );
    format!(
        "cannot be fetched since {:.0}; {} attempts failed ({}); {kept}",
        failing.since,
        failing.count,
        failing.message.as_deref().unwrap_or("no answer")
    )
}

/// What to look at when values cannot be fetched.
pub(super) fn source_remedy(reference: Option<&FieldReference>, global: &Global) -> String {
    let from = reference.map_or("", |it| it.from.as_str());
    global.remedy(&format!("`keyward source show {from}`"))
}
