//! Parts that several pages share: marks, states, times, facts, forms and actions.

mod chart;
mod form;
mod member;
mod next_page;
mod scopes;
mod subnav;

use jiff::Timestamp;
use maud::{Markup, html};

use crate::icons::Icon;
use crate::visit::segment;
use keyward_base::time::Clock;
use keyward_model::{ConnectionState, DeliveryAttempt, ManagedBy};

pub(crate) use chart::{failures, in_short, series};
pub(crate) use form::{
    Action, Check, Field, copyable, edit, own_authorization, search, search_more, settings_panel,
};
pub(crate) use member::{edits, input, inputs, values, words};
pub(crate) use next_page::{ListQuery, list_page};
pub(crate) use scopes::{client_labels, client_words};
pub(crate) use scopes::{known_scopes, scope_list};
pub(crate) use subnav::{Subpage, settings_nav};

/// Colours of marks, as many as the style sheet has.
const HUES: u32 = 12;

/// What a state means for its reader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tone {
    Ok,
    Warn,
    Bad,
    Idle,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Ok => "state ok",
            Self::Warn => "state warn",
            Self::Bad => "state bad",
            Self::Idle => "state idle",
        }
    }

    /// Of a connection.
    pub(crate) fn of(state: &ConnectionState) -> Self {
        match state {
            ConnectionState::Active => Self::Ok,
            ConnectionState::Testing => Self::Warn,
            ConnectionState::Draft { .. } | ConnectionState::Paused => Self::Idle,
            ConnectionState::Broken { .. } => Self::Bad,
        }
    }
}

/// A state: a word and a colour.
pub(crate) fn state(tone: Tone, word: &str) -> Markup {
    html! { span class=(tone.class()) { (word) } }
}

/// The mark of a provider: two letters on a colour made of its id, so that nothing is loaded from elsewhere.
pub(crate) fn mark(provider: &str, is_big: bool) -> Markup {
    let words: Vec<&str> =
        provider.split(['-', '_', '.', ' ']).filter(|it| !it.is_empty()).collect();
    let letters: String = match words.as_slice() {
        [first, second, ..] => first.chars().take(1).chain(second.chars().take(1)).collect(),
        [one] => one.chars().take(2).collect(),
        [] => "?".to_owned(),
    };
    // FNV-1a: the same colour at every start.
    let hash = provider
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let size = if is_big { "mark big" } else { "mark" };
    html! {
        span class=(format!("{size} hue-{}", hash % HUES)) aria-hidden="true" { (letters.to_uppercase()) }
    }
}

/// The time now.
pub(crate) fn now() -> Timestamp {
    Clock::System.now()
}

/// A time relative to now; the absolute one appears on hover. The script renews it.
pub(crate) fn ago(at: Timestamp) -> Markup {
    let absolute = format!("{at:.0}");
    html! { time data-ago datetime=(absolute) title=(absolute) { (relative(at, now())) } }
}

/// `5 min ago`, `in 3 d`; the day, from a week on.
fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs();
    let (count, unit) = match seconds.unsigned_abs() {
        0..10 => return "now".to_owned(),
        left @ 10..60 => (left, "s"),
        left @ 60..3_600 => (left / 60, "min"),
        left @ 3_600..86_400 => (left / 3_600, "h"),
        left @ 86_400..604_800 => (left / 86_400, "d"),
        _ => return at.strftime("%Y-%m-%d").to_string(),
    };
    if seconds < 0 { format!("{count} {unit} ago") } else { format!("in {count} {unit}") }
}

/// Name and value pairs; what has no value is omitted.
pub(crate) fn facts(pairs: &[(&str, Option<Markup>)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in pairs {
                @if let Some(value) = value { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// Short texts beside each other.
pub(crate) fn chips<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Markup {
    html! { span.chips { @for text in texts { span.chip { (text.as_ref()) } } } }
}

/// That the configuration file manages something, so that it cannot be edited here.
pub(crate) fn lock(managed_by: Option<ManagedBy>) -> Option<Markup> {
    (managed_by == Some(ManagedBy::File)).then(|| {
        html! { span.lock { (Icon::Lock.show()) "managed by the configuration file" } }
    })
}

/// What a page shows where there is nothing yet.
pub(crate) fn empty(title: &str, text: &str, action: Option<Markup>) -> Markup {
    html! {
        div.empty {
            b { (title) }
            p { (text) }
            @if let Some(action) = action { div.actions { (action) } }
        }
    }
}

/// The panel with what cannot be undone.
pub(crate) fn danger_zone(actions: &Markup) -> Markup {
    html! { section.panel { header { h2 { "Danger zone" } } div.body.actions { (actions) } } }
}

/// The names of resources in a sentence, each a link to its page below `path`.
pub(crate) fn links<'a>(path: &str, names: impl IntoIterator<Item = &'a String>) -> Markup {
    html! {
        @for (index, name) in names.into_iter().enumerate() {
            @if index > 0 { ", " }
            a href=(format!("{path}/{}", segment(name))) { (name) }
        }
    }
}

/// When something was delivered last since the start, and what came of it.
pub(crate) fn last_delivery(last: Option<&DeliveryAttempt>) -> Markup {
    html! {
        @match last {
            None => span.muted { "not since the start" },
            Some(last) => {
                (ago(last.at))
                p.why.bad[!last.taken] { (with_code(&last.what)) }
            }
        }
    }
}

/// A text in which what is between backticks is code. An odd backtick is one of the text.
pub(crate) fn with_code(text: &str) -> Markup {
    let is_paired = text.matches('`').count().is_multiple_of(2);
    html! {
        @for (place, part) in text.split(|c| c == '`' && is_paired).enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// The head of a page.
pub(crate) fn head(title: Markup, sub: Option<Markup>, actions: Markup) -> Markup {
    html! {
        div.head {
            div.titles {
                h1 { (title) }
                @if let Some(sub) = sub { p.sub { (sub) } }
            }
            div.actions { (actions) }
        }
    }
}

/// The hint, unless it contains a command: pages have links and buttons instead.
pub(crate) fn remedy(hint: Option<&str>) -> Option<&str> {
    hint.filter(|hint| !hint.contains("keyward ") && !hint.contains("--"))
}

/// A number of things: `1 agent`, `3 agents`.
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;

    #[test]
    fn times_are_relative_for_a_week() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for (span, text) in [
            (3.seconds(), "now"),
            ((-59).seconds(), "59 s ago"),
            ((-60).seconds(), "1 min ago"),
            ((-3_599).seconds(), "59 min ago"),
            (25.hours(), "in 1 d"),
            ((-167).hours(), "6 d ago"),
            ((-168).hours(), "2026-11-15"),
        ] {
            assert_eq!(relative(now + span, now), text);
        }
    }

    #[test]
    fn text_between_backticks_is_code_and_an_unpaired_backtick_is_text() {
        let shown = |text: &str| with_code(text).into_string();
        assert_eq!(shown("run `a <b>` now"), "run <code>a &lt;b&gt;</code> now");
        assert_eq!(shown("one ` alone"), "one ` alone");
    }

    #[test]
    fn a_provider_mark_shows_two_letters_of_the_id_and_escapes_markup() {
        let text = mark("google-workspace", false).into_string();
        assert!(text.contains(">GW<"), "{text}");
        assert_eq!(text, mark("google-workspace", false).into_string());
        assert!(!mark("<script>", true).into_string().contains("<SCRIPT"));
        assert!(mark("", false).into_string().contains(">?<"));
    }
}
