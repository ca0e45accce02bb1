//! `/services/new`: a form for the common case, and an editor for the rest. Both are checked while they are filled: what
//! was given is in the address, and the gateway shows what is wrong with it.

use axum::extract::Query;
use maud::{Markup, html};

use super::definition::{Checked, DefinitionForm, DefinitionProblem, TEXT_CHARS_MAX};
use crate::frame::{Page, Section};
use crate::parts::{chips, copyable, facts, head, remedy};
use crate::visit::{PageError, Tagged, Visit, segment, sentence};
use keyward_api::wire::{ProviderSource, ProviderView};
use keyward_rules::provider::Provider;

const EXAMPLE: &str = "id: acme\nname: Acme Billing\nhosts: [\"{region}.api.acme.example\"]\nvariables:\n  - { name: region, choices: [eu, us], default: eu, label: Region }\nauth:\n  - id: api_key\n    kind: api_key\n    label: API key\n    placement: { header: X-Acme-Key }\ntest: { url: \"https://{region}.api.acme.example/v2/me\" }";

/// What came of the check.
enum Verdict {
    /// Nothing was given yet.
    Nothing,
    Wrong(Vec<DefinitionProblem>),
    /// The id is taken by this service, which cannot be changed here.
    Taken(String),
    /// The own service with this id takes the definition; with the tag of its present version.
    Changes(Box<Checked>, Option<String>),
    Fits(Box<Checked>),
}

pub(super) async fn show(
    visit: Visit,
    Query(given): Query<DefinitionForm>,
) -> Result<Page, PageError> {
    let verdict = judged(&visit, &given).await?;
    let content = html! {
        p.crumb { a href="/services" { "Services" } }
        (head(html! { "Define a service" }, Some(html! { "Any host with an HTTP API. Credentials are sent to its hosts and nowhere else." }), html! {}))
        nav.tabs.bar aria-label="How it is described" {
            a href="/services/new" aria-current=[(!given.is_text()).then_some("true")] { "With a form" }
            a href=(as_text(&given, &verdict)) aria-current=[given.is_text().then_some("true")] { "As YAML or JSON" }
        }
        div.columns {
            section.panel { div.body {
                form action="/services/new" method="get" data-find {
                    @if given.is_text() { (editor(&given)) } @else { (form(&given, &verdict)) }
                    noscript { button { "Check" } }
                }
            } }
            aside #verdict data-live aria-live="polite" { (panel(&visit, &given, &verdict)) }
        }
    };
    Ok(Page::new(&visit, Section::Settings, "Define a service", content))
}

/// The editor, with what the form describes.
fn as_text(given: &DefinitionForm, verdict: &Verdict) -> String {
    let yaml = match verdict {
        Verdict::Fits(_) | Verdict::Taken(_) | Verdict::Changes(..) => given.yaml(),
        _ => String::new(),
    };
    format!("/services/new?as=text&definition={}", segment(&yaml))
}

async fn judged(visit: &Visit, given: &DefinitionForm) -> Result<Verdict, PageError> {
    if !given.is_begun() {
        return Ok(Verdict::Nothing);
    }
    let checked = match given.checked() {
        Ok(checked) => checked,
        Err(wrong) => return Ok(Verdict::Wrong(wrong)),
    };
    let path = format!("/providers/{}", segment(&checked.provider.id));
    let taken: Option<ProviderView> = visit.get_optional(&path).await?;
    Ok(match taken {
        Some(taken) if taken.managed_by == Some(ProviderSource::Store) => {
            let Tagged { tag, .. } = visit.tagged::<ProviderView>(&path).await?;
            Verdict::Changes(Box::new(checked), tag)
        }
        Some(taken) => Verdict::Taken(taken.id),
        None => Verdict::Fits(Box::new(checked)),
    })
}

/// What is wrong with a field, where the check puts it.
fn wrong_at(verdict: &Verdict, field: &str) -> Markup {
    let all: &[DefinitionProblem] = match verdict {
        Verdict::Wrong(all) => all,
        _ => &[],
    };
    html! {
        div id=(format!("{field}-wrong")) data-live {
            @for it in all.iter().filter(|it| it.field == Some(field)) { p.wrong { (problem_text(it)) } }
        }
    }
}

fn problem_text(wrong: &DefinitionProblem) -> Markup {
    html! {
        (sentence(&wrong.message))
        @if let Some(remedy) = remedy(Some(&wrong.remedy)).filter(|text| !text.is_empty()) { " " (sentence(remedy)) }
    }
}

fn form(given: &DefinitionForm, verdict: &Verdict) -> Markup {
    let text = |name: &'static str,
                label: &str,
                value: &Option<String>,
                example: &str,
                help: &str| {
        html! {
            div.field {
                label for=(name) { (label) }
                input id=(name) name=(name) value=[value.as_deref()] placeholder=(example) autocomplete="off" autocapitalize="off"
                    spellcheck="false" aria-describedby=(format!("{name}-help {name}-wrong"));
                p.help id=(format!("{name}-help")) { (help) }
                (wrong_at(verdict, name))
            }
        }
    };
    let ways = [
        ("bearer", "As Authorization: Bearer"),
        ("header", "In another header field"),
        ("query", "In a query parameter"),
        ("basic", "User name and password (Basic)"),
    ];
    html! {
        (text("host", "Host", &given.host, "api.corp.example", "Without a path. Credentials go to this host only; add :port unless it is 443."))
        (text("name", "Name", &given.name, "Corp Billing", "For people. Empty: the host."))
        fieldset.field {
            legend.label { "How it accepts the key" }
            @for (value, label) in ways {
                @let id = format!("send-{value}");
                div.check {
                    input type="radio" id=(id) name="send" value=(value) checked[given.send() == value];
                    label for=(id) { (label) }
                }
            }
        }
        fieldset data-when="send=header" { (text("header", "Header field", &given.header, "X-Api-Key", "Its name alone.")) }
        fieldset data-when="send=query" { (text("query", "Query parameter", &given.query, "api_key", "Its name alone.")) }
        (text("test", "Path of a test (optional)", &given.test, "/v1/me", "A GET that fails with a wrong key. New keys are tested with it before agents use them."))
    }
}

fn editor(given: &DefinitionForm) -> Markup {
    html! {
        input type="hidden" name="as" value="text";
        div.field {
            label for="definition" { "Definition" }
            textarea #definition name="definition" rows="22" maxlength=(TEXT_CHARS_MAX) placeholder=(EXAMPLE) spellcheck="false"
                autocapitalize="off" aria-describedby="verdict" { (given.definition.as_deref().unwrap_or_default()) }
            p.help { "As under " code { "providers:" } " of the configuration, one service." }
        }
        div.field {
            label for="file" { "Or choose a file" }
            input #file type="file" accept=".yaml,.yml,.json" data-into="definition";
        }
    }
}

fn panel(visit: &Visit, given: &DefinitionForm, verdict: &Verdict) -> Markup {
    let general = |all: &[DefinitionProblem]| {
        let general: Vec<_> = all.iter().filter(|it| it.field.is_none()).cloned().collect();
        general
    };
    html! {
        section.panel {
            header { h2 { "Check" } }
            div.body { @match verdict {
                Verdict::Nothing => p.muted { "It is checked while you write." },
                Verdict::Wrong(all) => {
                    @for it in general(all) { div.wrong-box { p { @if !it.place.is_empty() { code { (it.place) } " " } (problem_text(&it)) } } }
                    @if all.iter().any(|it| it.field.is_some()) { p.muted { "Something is missing or wrong in the form." } }
                }
                Verdict::Taken(id) => div.wrong-box { p { "There is a service " a href=(format!("/services/{}", segment(id))) { (id) } " already." } },
                Verdict::Fits(checked) => (fits(visit, given, checked)),
                Verdict::Changes(checked, tag) => (changes(visit, checked, tag.as_deref())),
            } }
        }
    }
}

fn fits(visit: &Visit, given: &DefinitionForm, checked: &Checked) -> Markup {
    let provider = &checked.provider;
    if let Some(owner) = &checked.owner {
        return html! {
            div.wrong-box {
                p { "The host belongs to service " a href=(format!("/services/{}", segment(owner))) { (owner) } " of the catalogue." }
                p { a href=(format!("/connect/to/{}", segment(owner))) { "Connect an account there" } }
            }
        };
    }
    let body = serde_json::Value::Object(checked.definition.clone());
    html! {
        (correct(provider))
        @if !given.is_text() { details #definition-text { summary { "Definition" } (copyable(&given.yaml())) } }
        @if visit.is_admin() {
            form method="post" data-api="POST /providers" data-body=(body) data-to="/services/{id}" data-done="Added. Connect an account next." {
                div.actions { button.first { "Add service" } }
            }
        } @else { p.muted { "An admin of your organisation can add it." } }
    }
}

/// What the definition says.
fn correct(provider: &Provider) -> Markup {
    html! {
        p.status-ok { "The definition is correct." }
        (facts(&[
            ("Id", Some(html! { code { (provider.id) } })),
            ("Name", Some(html! { (provider.name) })),
            ("Hosts", Some(chips(provider.hosts.iter().map(ToString::to_string)))),
            ("Methods", Some(chips(provider.auth.iter().map(|auth| auth.label.as_str())))),
            ("Test", Some(html! { @if provider.about.test.is_some() { "yes" } @else { span.muted { "none: keys are used as they are given" } } })),
        ]))
    }
}

/// An own service becomes this one. What its connections need is refused by the gateway, which names it.
fn changes(visit: &Visit, checked: &Checked, tag: Option<&str>) -> Markup {
    let id = &checked.provider.id;
    let body = serde_json::Value::Object(checked.definition.clone());
    html! {
        (correct(&checked.provider))
        p { "There is a service " a href=(format!("/services/{}", segment(id))) { (id) } " already. It gets this definition; while connections use it, its hosts and the places of its keys cannot change." }
        @if visit.is_admin() {
            form method="post" data-api=(format!("PUT /providers/{}", segment(id))) data-body=(body) data-tag=[tag] data-to=(format!("/services/{}", segment(id))) data-done="Changed." {
                div.actions { button.first { "Change service" } }
            }
        } @else { p.muted { "An admin of your organisation can change it." } }
    }
}
