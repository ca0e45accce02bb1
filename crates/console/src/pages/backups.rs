//! The part of `/settings` about backups: the schedule, the last one, and a download.

use maud::{Markup, html};

use crate::parts::{Tone, ago, facts, state};
use keyward_api::wire::BackupView;

/// The word beside the title.
pub(super) fn in_short(view: &BackupView) -> Markup {
    match (view.failed, &view.every) {
        (Some(_), _) => state(Tone::Bad, "failed"),
        (None, Some(_)) => state(Tone::Ok, "scheduled"),
        (None, None) => state(Tone::Warn, "not scheduled"),
    }
}

/// `downloads`: whether the reader may have one.
pub(super) fn show(view: &BackupView, downloads: bool) -> Markup {
    let last = view.last.as_ref().map(|last| {
        html! { (ago(last.created)) " " code { (last.file) } " " (last.bytes) " bytes" }
    });
    let failure = view.failed.zip(view.failure.as_ref());
    let has_recipients = !view.recipients.is_empty();
    html! {
        @if let Some((at, why)) = failure {
            p.wrong-box { "The last attempt failed " (ago(at)) ": " (why) }
        }
        (facts(&[
            ("Every", view.every.as_ref().map(|every| html! { (every) ", " (view.keep.unwrap_or_default()) " files are kept" })),
            ("Folder", view.to.as_ref().map(|to| html! { code { (to) } })),
            ("Last", last),
            ("Encrypted for", has_recipients.then(|| html! { @for recipient in &view.recipients { p { code { (recipient) } } } })),
        ]))
        @if !has_recipients {
            p.muted { "Name " code { "recipients" } " under " code { "backup" } " in the configuration to download backups here. " code { "keyward backup" } " works without them." }
        }
        p.small.muted { "A person who can open a backup has every secret of every organisation." }
        @if downloads && has_recipients {
            div.actions { button data-download="/backup" { "Download a backup" } }
        }
    }
}
