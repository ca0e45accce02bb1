//! Forms and buttons. Each names the request of the API that the script sends: `data-api="POST /connections/work/pause"`.

use maud::{Markup, html};

use crate::icons::Icon;
use keyward_rules::policy::OwnAuthorization;

/// A button that sends one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Action<'a> {
    /// Method and path below `/api/v1`.
    pub(crate) api: String,
    /// A verb with its object.
    pub(crate) label: &'a str,
    /// Asked before: the first line is the question, the others say what it breaks.
    pub(crate) confirm: Option<String>,
    /// What the person types to confirm: the name of what is removed.
    pub(crate) typed: Option<&'a str>,
    /// Said afterwards.
    pub(crate) done: &'a str,
    /// The page that follows; else the same one.
    pub(crate) to: Option<&'a str>,
    /// The body, JSON.
    pub(crate) body: Option<String>,
    /// The tag of the version that it is about.
    pub(crate) tag: Option<&'a str>,
    /// The member of the answer that is shown once.
    pub(crate) show: Option<&'a str>,
    /// The class of the button: `first`, `danger`, `plain`.
    pub(crate) class: &'a str,
    /// The key that presses it in a list.
    pub(crate) key: Option<&'a str>,
}

impl<'a> Action<'a> {
    /// An action that deletes what `api` names. `confirm`: the question, and what it breaks.
    pub(crate) fn removal(api: String, label: &'a str, confirm: String) -> Self {
        let confirm = Some(confirm);
        Self { api, label, confirm, done: "Removed.", class: "danger", ..Self::default() }
    }

    pub(crate) fn show(&self) -> Markup {
        html! {
            button type="button" class=[(!self.class.is_empty()).then_some(self.class)] data-key=[self.key]
                data-api=(self.api) data-confirm=[self.confirm.as_deref()] data-type=[self.typed]
                data-done=[(!self.done.is_empty()).then_some(self.done)] data-to=[self.to]
                data-body=[self.body.as_deref()] data-tag=[self.tag] data-show=[self.show] { (self.label) }
        }
    }
}

/// A field of a form.
#[derive(Clone, Debug, Default)]
pub(crate) struct Field<'a> {
    /// Its name, a path into the JSON with dots.
    pub(crate) name: &'a str,
    /// The beginning of its id, where a page has fields of this name in several forms.
    pub(crate) within: &'a str,
    pub(crate) label: &'a str,
    /// A sentence below it.
    pub(crate) help: Option<&'a str>,
    /// What it has now.
    pub(crate) value: Option<&'a str>,
    pub(crate) example: Option<&'a str>,
    /// `text`, `password`, `number`, `date` …; empty: `text`.
    pub(crate) kind: &'a str,
    /// Whether it may have several lines.
    pub(crate) is_multiline: bool,
    /// How it becomes JSON: `list`, `number`, `lines`, `pairs`, `raw`.
    pub(crate) json: Option<&'a str>,
    /// Whether it may be empty.
    pub(crate) is_optional: bool,
    /// Known beginnings of a secret, separated by blanks.
    pub(crate) prefixes: Option<String>,
    /// Whether an emptied field is sent as `null`.
    pub(crate) empties: bool,
}

impl Field<'_> {
    pub(crate) fn show(&self) -> Markup {
        let kind = if self.kind.is_empty() { "text" } else { self.kind };
        let id = format!("field-{}{}", self.within, self.name.replace('.', "-"));
        let help = self.help.map(|_| format!("{id}-help"));
        // Password managers must not keep keys of services, nor fill them in.
        let complete = if kind == "password" { "new-password" } else { "off" };
        html! {
            div.field {
                label for=(id) {
                    (self.label)
                    @if self.is_optional { span.muted { " (optional)" } }
                }
                // Browsers remove line breaks from an `input`.
                @if self.is_multiline {
                    textarea id=(id) name=(self.name) rows="4" placeholder=[self.example]
                        required[!self.is_optional] autocomplete="off" spellcheck="false" autocapitalize="off"
                        data-json=[self.json] data-prefixes=[self.prefixes.as_deref()]
                        data-null[self.empties] aria-describedby=[help.as_deref()] { (self.value.unwrap_or_default()) }
                } @else {
                    input id=(id) name=(self.name) type=(kind) value=[self.value] placeholder=[self.example]
                        required[!self.is_optional] autocomplete=(complete) spellcheck="false" autocapitalize="off"
                        data-json=[self.json] data-prefixes=[self.prefixes.as_deref()]
                        data-null[self.empties] aria-describedby=[help.as_deref()];
                }
                @if let (Some(text), Some(id)) = (self.help, &help) { p.help id=(id) { (text) } }
                @if self.prefixes.is_some() { p.shape.help role="status" {} }
            }
        }
    }
}

/// A box to tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Check<'a> {
    /// Its name, a path into the JSON with dots.
    pub(crate) name: &'a str,
    /// What it adds to the list of its name; empty: it is `true` or `false`.
    pub(crate) value: &'a str,
    pub(crate) label: &'a str,
    /// A sentence below it.
    pub(crate) help: Option<&'a str>,
    pub(crate) is_ticked: bool,
    /// Whether a list without a tick is sent as `null`.
    pub(crate) empties: bool,
}

impl Check<'_> {
    pub(crate) fn show(&self) -> Markup {
        let id = format!("tick-{}-{}", self.name, self.value).replace(['.', ':'], "-");
        let is_flag = self.value.is_empty();
        html! {
            div.check {
                input id=(id) type="checkbox" name=(self.name) checked[self.is_ticked]
                    value=[(!is_flag).then_some(self.value)] data-each[!is_flag] data-null[self.empties] data-json=[is_flag.then_some("flag")];
                label for=(id) {
                    (self.label)
                    @if let Some(help) = self.help { small.muted { (help) } }
                }
            }
        }
    }
}

/// What is done with authorizations of requests' own; `unset` says what an absent value means.
pub(crate) fn own_authorization(chosen: Option<OwnAuthorization>, unset: Option<&str>) -> Markup {
    html! {
        label for="field-own_authorization" { "Requests with an authorization of their own" }
        select #field-own_authorization name="own_authorization" data-null {
            @if let Some(unset) = unset { option value="" { (unset) } }
            @for own in [OwnAuthorization::Refuse, OwnAuthorization::Pass] {
                option value=(own.as_str()) selected[chosen == Some(own)] { (own.as_str()) }
            }
        }
        p.help { "URLs signed with another key, and an Authorization without a placeholder where Keyward signs requests." }
    }
}

/// The form that changes a resource. `api`: the request; `tag`: of the version that it is about. Not live: what was typed would
/// get the tag of another version.
pub(crate) fn edit(api: &str, tag: Option<&str>, done: &str, inputs: &Markup) -> Markup {
    html! {
        details #edit {
            summary { "Edit" }
            form method="post" data-api=(api) data-tag=[tag] data-done=(done) {
                (inputs)
                button.first { "Save settings" }
            }
        }
    }
}

/// The panel with the settings of a resource.
pub(crate) fn settings_panel(content: &Markup) -> Markup {
    html! { section.panel { header { h2 { "Settings" } } div.body { (content) } } }
}

/// Lines to copy.
pub(crate) fn copyable(lines: &str) -> Markup {
    html! {
        div.copy {
            pre.code tabindex="0" { (lines) }
            button type="button" data-copy { "Copy" }
        }
    }
}

/// The foot of a list of which only the first ones are read.
pub(crate) fn search_more(what: &str) -> Markup {
    html! { p.small.muted { "There are more " (what) " than this page reads: search for their name." } }
}

/// The search field of a list: it applies while it is typed.
pub(crate) fn search(what: &str, query: Option<&str>) -> Markup {
    html! {
        div.search {
            (Icon::Search.show())
            input type="search" name="q" value=[query] placeholder=(format!("Search {what}"))
                aria-label=(format!("Search {what}")) autocomplete="off";
            kbd aria-hidden="true" { "/" }
        }
    }
}
