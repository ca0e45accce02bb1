//! The pages of a link, by which a person connects an account, and those of links that cannot be used. No page has a
//! secret: what a person sent is never sent back.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use http::{StatusCode, header};
use maud::{Markup, html};

use super::page::{PublicPage, alert, asked_scopes, links, other_account};
use crate::parts::{facts, with_code};
use crate::words::sentence;
use keyward_api::connect_sessions::walk;
use keyward_api::connect_sessions::{
    ConnectOffer, ConnectPage, ConnectRefusal, ConnectStep, EnteredValues, FIELD, FormProblem,
    PageContent, PageMark, VARIABLE,
};
use keyward_api::handler::{boxed, get};
use keyward_api::{Admin, PageRequest};
use keyward_base::connect::Branding;
use keyward_rules::provider::{AuthMethod, Field, Variable};

/// What the person of a link that has ended can do.
const ASK_AGAIN: &str = "Ask for another link where you got this one.";

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/connect/session", get(show).post(boxed(step)))
        .route("/connect/{token}", get(offer).post(boxed(open)))
}

async fn offer(request: PageRequest, Path(token): Path<String>) -> Response {
    answered(&request.admin, walk::offer(&request, &token).await)
}

async fn open(request: PageRequest, Path(token): Path<String>, body: Body) -> Response {
    answered(&request.admin, walk::open(&request, &token, body).await)
}

async fn show(request: PageRequest) -> Response {
    answered(&request.admin, Box::pin(walk::show(&request)).await)
}

async fn step(request: PageRequest, body: Body) -> Response {
    answered(&request.admin, Box::pin(walk::step(&request, body)).await)
}

fn answered(admin: &Admin, step: Result<ConnectStep, ConnectRefusal>) -> Response {
    match step {
        Ok(ConnectStep::Moved { to, cookie }) => {
            let mut answer = Redirect::to(&to).into_response();
            answer.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
            answer
        }
        Ok(ConnectStep::Page(page)) => {
            let is_wrong = matches!(page.content, PageContent::Method(_, Some(_)));
            let status = if is_wrong { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
            let brand = admin.branding();
            shown(*page, &brand).branded(brand).answer(status)
        }
        Err(refusal) => refused(refusal, admin.branding()),
    }
}

fn refused(refusal: ConnectRefusal, brand: Branding) -> Response {
    let (status, why, remedy) = match refusal {
        ConnectRefusal::Ended => (
            StatusCode::GONE,
            "This link has ended: links work once, and for 30 minutes.".to_owned(),
            ASK_AGAIN,
        ),
        ConnectRefusal::UnknownBrowser => (
            StatusCode::FORBIDDEN,
            "This browser did not open the link, or the link has ended.".to_owned(),
            ASK_AGAIN,
        ),
        ConnectRefusal::OtherBrowser => (
            StatusCode::FORBIDDEN,
            "This link was opened in another browser, and works only there.".to_owned(),
            "If that was not you, ask for another link, and say that this one was opened.",
        ),
        ConnectRefusal::ForeignForm => (
            StatusCode::FORBIDDEN,
            "This form was sent by another site.".to_owned(),
            "Open the link, and use its own buttons.",
        ),
        ConnectRefusal::Failed(error) => {
            let (status, why) = (error.code().status(), sentence(&error.to_string()));
            (status, why, "Nothing was kept. Open the link again.")
        }
        ConnectRefusal::Api(error) => return error.into_response(),
    };
    let content = html! { p { (with_code(&why)) } p { (remedy) } };
    PublicPage::new("This link cannot be used", content).branded(brand).answer(status)
}

fn shown(page: ConnectPage, brand: &Branding) -> PublicPage {
    let ConnectPage { user, connection, back, content } = page;
    let name = brand.name.as_deref().unwrap_or("Keyward");
    let subject = Subject { user: &user, connection: connection.as_deref() };
    let way_back = html! {
        @if let Some(url) = &back { (links(&[("Back without connecting", &**url)])) }
    };
    match content {
        PageContent::Offered { providers, mark } => offered(&subject, name, &providers, mark),
        PageContent::Providers(providers) => {
            let all: Vec<_> = providers
                .iter()
                .map(|it| (it.name.clone(), format!("?provider={}", it.id)))
                .collect();
            let content = html! {
                (facts(&[("For", Some(html! { (user) }))]))
                @if all.is_empty() { p { "Nothing can be connected at present. Ask for help where you got the link." } }
                @else { (choices(&all)) }
                (way_back)
            };
            PublicPage::new("Choose what to connect", content)
        }
        PageContent::Methods(offers) => methods(&user, &offers, &way_back),
        PageContent::Method(offer, problem) => {
            let content = html! { (method(&subject, &offer, problem.as_deref())) (way_back) };
            PublicPage::new(format!("Connect {}", offer.provider.name), content)
        }
        PageContent::ToProvider { provider, url } => {
            let content = html! { p { "You are sent to " (provider) "." } };
            PublicPage::new(format!("To {provider}"), content).forward_to(&url)
        }
        PageContent::OtherAccount { before, account } => {
            other_account(&before, account.as_deref(), "Programs", "?step=account&")
        }
        PageContent::AtProvider { provider } => {
            let content = html! {
                p { "Finish in the tab that was opened there, or start again." }
                (links(&[("Start again", "?step=choose")]))
            };
            PublicPage::new(format!("Continue at {provider}"), content)
        }
        PageContent::Done { provider } => done(&provider, name, back.as_deref()),
        PageContent::Failed { why } => {
            let content = html! {
                (alert(&why))
                p { "Nothing was kept." }
                (links(&[("Try again", "?step=choose")]))
                (way_back)
            };
            PublicPage::new("Not connected", content)
        }
    }
}

/// Whom the account is connected for, and the connection that is connected again.
struct Subject<'a> {
    user: &'a str,
    connection: Option<&'a str>,
}

impl Subject<'_> {
    fn show(&self) -> Markup {
        let connection = self.connection.map(|name| html! { (name) });
        facts(&[("For", Some(html! { (self.user) })), ("Connection", connection)])
    }
}

fn offered(subject: &Subject<'_>, name: &str, providers: &[String], mark: PageMark) -> PublicPage {
    let title = match (subject.connection, providers) {
        (Some(_), _) => "Connect your account again".to_owned(),
        (None, [only]) => format!("Connect {only}"),
        (None, _) => "Connect an account".to_owned(),
    };
    let content = html! {
        p { (name) " asks you to connect an account. Programs that act for you will use it. Go on only if you want this yourself." }
        (subject.show())
        form method="post" action="" autocomplete="off" {
            input type="hidden" name=(PageMark::FIELD) value=(mark.into_text());
            button.main { "Continue" }
        }
        p { "This link works once, in the browser that continues here." }
    };
    PublicPage::new(title, content)
}

fn methods(user: &str, offers: &[ConnectOffer], way_back: &Markup) -> PublicPage {
    let provider = &offers[0].provider;
    let to = |offer: &ConnectOffer| format!("?provider={}&auth={}", provider.id, offer.auth().id);
    let all: Vec<_> = offers.iter().map(|it| (it.auth().label.clone(), to(it))).collect();
    let content = html! {
        (facts(&[("For", Some(html! { (user) }))]))
        p { "How do you want to connect?" }
        (choices(&all))
        (way_back)
    };
    PublicPage::new(format!("Connect {}", provider.name), content)
}

fn choices(all: &[(String, String)]) -> Markup {
    links(&all.iter().map(|(label, to)| (&**label, &**to)).collect::<Vec<_>>())
}

fn done(provider: &str, name: &str, back: Option<&str>) -> PublicPage {
    let content = html! {
        p { "Your " (provider) " account is connected." }
        @if back.is_some() { p { "You are sent back to " (name) "." } } @else { p { "You can close this window." } }
    };
    let page = PublicPage::new("Connected", content);
    match back {
        Some(url) => page.forward_to(url),
        None => page,
    }
}

/// The form of a key, or the button of a consent.
fn method(subject: &Subject<'_>, offer: &ConnectOffer, problem: Option<&FormProblem>) -> Markup {
    let (provider, auth, consents) = (&*offer.provider, offer.auth(), offer.consents());
    let none = EnteredValues::default();
    let entered = problem.map_or(&none, |problem| &problem.entered);
    let variables = provider.variables.iter().filter(|it| !it.captured);
    let variables = variables.filter(|_| subject.connection.is_none());
    let mut inputs: Vec<_> = variables.map(|it| Input::of_variable(it, entered)).collect();
    if !consents {
        inputs.extend(auth.fields.iter().map(|field| Input::of_field(auth, field, entered)));
    }
    // The input that a problem is about: the named one, or the only one.
    let is_wrong = |input: &Input<'_>| {
        let problem = problem.filter(|_| !consents);
        problem.is_some_and(|it| inputs.len() == 1 || it.input.as_ref() == Some(&input.name))
    };
    let insists = problem.is_some_and(|problem| problem.may_insist);
    let step = match (consents, insists) {
        (true, _) => "consent",
        (false, false) => "key",
        (false, true) => "key&anyway=yes",
    };
    html! {
        @if let Some(problem) = problem { (said(problem)) }
        (subject.show())
        @if consents {
            p { "You are sent to " (provider.name) ", where you choose the account and agree." }
            @if !offer.scopes.is_empty() {
                (facts(&[("Asks for", Some(asked_scopes(&offer.scopes, &provider.words_for(&offer.scopes))))]))
            }
        } @else {
            (about_key(offer))
        }
        form method="post" action=(format!("?provider={}&auth={}&step={step}", provider.id, auth.id)) autocomplete="off" {
            @for input in &inputs { (input.show(is_wrong(input))) }
            button.main { @if consents { "Continue" } @else { "Connect" } }
        }
        @if !consents { p { "The key is tested, stored encrypted, and never shown again." } }
    }
}

fn said(problem: &FormProblem) -> Markup {
    html! {
        (alert(&problem.message))
        @if let Some(hint) = &problem.hint { p { (with_code(&sentence(hint))) } }
        @if problem.may_insist { p { "If it is correct, enter it again: then it is tested as it is." } }
    }
}

/// What the provider says of its keys, and where they are made.
fn about_key(offer: &ConnectOffer) -> Markup {
    let (provider, auth) = (&offer.provider, offer.auth());
    html! {
        @if let Some(note) = &auth.note { p { (with_code(&sentence(&format!("{}: {note}", auth.label)))) } }
        @if let Some(url) = &provider.about.key_url {
            p { a href=(url) target="_blank" rel="noopener noreferrer" { "Get a key at " (provider.name) } }
        }
    }
}

/// One input of a form. A secret has no value.
struct Input<'a> {
    name: String,
    label: &'a str,
    help: Option<&'a str>,
    kind: InputKind<'a>,
    is_optional: bool,
}

/// How a value is entered, and what it is at first.
enum InputKind<'a> {
    /// One line that is not shown.
    Secret,
    /// Several lines, such as a key file.
    Lines(&'a str),
    /// One line, perhaps with an example.
    Text(&'a str, Option<&'a str>),
    /// One of these.
    Choice(&'a str, &'a [String]),
}

impl<'a> Input<'a> {
    fn of_variable(variable: &'a Variable, entered: &'a EnteredValues) -> Self {
        let name = format!("{VARIABLE}{}", variable.name);
        let default = variable.default.as_deref().unwrap_or_default();
        let value = entered.get(&name).unwrap_or(default);
        let kind = match variable.choices.is_empty() {
            true => InputKind::Text(value, variable.example.as_deref()),
            false => InputKind::Choice(value, &variable.choices),
        };
        let (label, help) = (&*variable.label, variable.help.as_deref());
        Self { name, label, help, kind, is_optional: !default.is_empty() }
    }

    fn of_field(auth: &AuthMethod, field: &'a Field, entered: &'a EnteredValues) -> Self {
        let name = format!("{FIELD}{}", field.name);
        let value = entered.get(&name).unwrap_or_default();
        let kind = match (auth.is_multiline(field), field.secret) {
            (true, _) => InputKind::Lines(value),
            (false, true) => InputKind::Secret,
            (false, false) => InputKind::Text(value, None),
        };
        let (label, help) = (&*field.label, field.help.as_deref());
        Self { name, label, help, kind, is_optional: field.optional }
    }

    /// `is_wrong`: the alert of the page is about its value, so it has the focus.
    fn show(&self, is_wrong: bool) -> Markup {
        let Self { name, label, help, kind, is_optional } = self;
        let required = !is_optional;
        let help_id = help.map(|_| format!("{name}-help"));
        let about = is_wrong.then_some("alert").into_iter().chain(help_id.as_deref());
        let about = about.collect::<Vec<_>>().join(" ");
        let about = (!about.is_empty()).then_some(about);
        let wrong = is_wrong.then_some("true");
        html! {
            label for=(name) { (label) @if *is_optional { " (optional)" } }
            @match kind {
                InputKind::Secret => {
                    input type="password" autocomplete="off" id=(name) name=(name) required[required]
                        aria-describedby=[about.as_deref()] aria-invalid=[wrong] autofocus[is_wrong] spellcheck="false";
                }
                InputKind::Lines(value) => {
                    textarea autocomplete="off" id=(name) name=(name) required[required]
                        aria-describedby=[about.as_deref()] aria-invalid=[wrong] autofocus[is_wrong] spellcheck="false" { (value) }
                }
                InputKind::Text(value, example) => {
                    input id=(name) name=(name) required[required] aria-describedby=[about.as_deref()] aria-invalid=[wrong]
                        autofocus[is_wrong] spellcheck="false" value=(value) placeholder=[example];
                }
                InputKind::Choice(chosen, choices) => {
                    select id=(name) name=(name) required[required] aria-describedby=[about.as_deref()] aria-invalid=[wrong]
                        autofocus[is_wrong] spellcheck="false" {
                        @for choice in choices.iter() {
                            option value=(choice) selected[choice == chosen] { (choice) }
                        }
                    }
                }
            }
            @if let (Some(help), Some(id)) = (help, &help_id) { p.help id=(id) { (help) } }
        }
    }
}
