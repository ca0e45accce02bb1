//! Renders the pages of a link, and those of links that cannot be used. Each page is a function of what it shows,
//! so that another renderer can replace this file. No page has a script or a secret.

use http::StatusCode;

use super::browser::PageMark;
use super::form::{EnteredValues, FIELD, FormProblem, VARIABLE};
use super::offers::{ConnectOffer, Offers};
use crate::consents::asks_for;
use crate::error::ApiError;
use crate::html::{FormField, FormInput, HtmlPage, sentence};
use crate::state::Admin;
use axum::response::Response;
use keyward_base::connect::Branding;
use keyward_rules::provider::{AuthMethod, Field, Variable};

/// The parts that every page of a connect session has.
pub(super) struct PageFrame {
    pub(super) brand: Branding,
    /// The name of the user whom the account is connected for.
    pub(super) user: String,
    /// The connection that is connected again.
    pub(super) connection: Option<String>,
    /// Where the browser can go back to.
    pub(super) back: Option<String>,
}

/// A decision about another account.
pub(super) struct OtherAccount {
    pub(super) before: String,
    pub(super) account: Option<String>,
}

impl PageFrame {
    fn name(&self) -> &str {
        self.brand.name.as_deref().unwrap_or("Keyward")
    }

    fn page(&self, title: &str) -> HtmlPage {
        HtmlPage::branded(title, &self.brand)
    }

    fn with_back(&self, page: HtmlPage, label: &str) -> HtmlPage {
        match &self.back {
            Some(url) => page.links(&[(label, url)]),
            None => page,
        }
    }

    /// The first page of a link. Previews of messengers and mail scanners open it, so it uses nothing up.
    pub(super) fn offered(&self, providers: &[&str], mark: PageMark) -> Response {
        let what = match (&self.connection, providers) {
            (Some(_), _) => "Connect your account again".to_owned(),
            (None, [only]) => format!("Connect {only}"),
            (None, _) => "Connect an account".to_owned(),
        };
        let page = self.page(&what).text(&format!(
            "{} asks you to connect an account. Programs that act for you will use it. Go on only if you want \
             this yourself.",
            self.name()
        ));
        let page = page.fact("For", &self.user);
        let page = match &self.connection {
            Some(name) => page.fact("Connection", name),
            None => page,
        };
        let mark = FormField {
            name: PageMark::FIELD.to_owned(),
            label: String::new(),
            help: None,
            input: FormInput::Hidden(mark.into_text()),
            optional: false,
            wrong: false,
        };
        page.form("", &[mark], "Continue")
            .text("This link works once, in the browser that continues here.")
            .answer(StatusCode::OK)
    }

    /// The choice of a provider.
    pub(super) fn providers(&self, offers: &Offers) -> Response {
        let page = self.page("Choose what to connect").fact("For", &self.user);
        let link = |provider: &&std::sync::Arc<keyward_rules::provider::Provider>| {
            (provider.name.clone(), format!("?provider={}", provider.id))
        };
        let links: Vec<_> = offers.providers().iter().map(link).collect();
        let links: Vec<_> = links.iter().map(|(name, to)| (name.as_str(), to.as_str())).collect();
        let page = match links.is_empty() {
            true => page
                .text("Nothing can be connected at present. Ask for help where you got the link."),
            false => page.links(&links),
        };
        self.with_back(page, "Back without connecting").answer(StatusCode::OK)
    }

    /// The choice of a way to authenticate.
    pub(super) fn methods(&self, offers: &[&ConnectOffer]) -> Response {
        let provider = &offers[0].provider;
        let page = self.page(&format!("Connect {}", provider.name)).fact("For", &self.user);
        let links = offers.iter().map(|offer| {
            let to = format!("?provider={}&auth={}", provider.id, offer.auth().id);
            (offer.auth().label.clone(), to)
        });
        let links: Vec<_> = links.collect();
        let links: Vec<_> = links.iter().map(|(name, to)| (name.as_str(), to.as_str())).collect();
        let page = page.text("How do you want to connect?").links(&links);
        self.with_back(page, "Back without connecting").answer(StatusCode::OK)
    }

    /// The form of a key, or the button of a consent.
    pub(super) fn method(&self, offer: &ConnectOffer, problem: Option<&FormProblem>) -> Response {
        let (provider, auth) = (&offer.provider, offer.auth());
        let page = self.page(&format!("Connect {}", provider.name));
        let page = with_problem(page, problem).fact("For", &self.user);
        let page = match &self.connection {
            Some(name) => page.fact("Connection", name),
            None => page,
        };
        let query = format!("?provider={}&auth={}", provider.id, auth.id);
        let variables = provider.variables.iter().filter(|it| !it.captured);
        let none = EnteredValues::default();
        let entered = problem.map_or(&none, |problem| &problem.entered);
        let variables = variables.filter(|_| self.connection.is_none());
        let variables = variables.map(|it| variable(it, entered));
        let mut fields: Vec<_> = variables.collect();
        let page = match offer.consents() {
            true => {
                let page = page.text(&format!(
                    "You are sent to {}, where you choose the account and agree.",
                    provider.name
                ));
                let page = match offer.scopes.as_slice() {
                    [] => page,
                    scopes => asks_for(page, scopes, &provider.words_for(scopes)),
                };
                page.form(&format!("{query}&step=consent"), &fields, "Continue")
            }
            false => {
                fields.extend(auth.fields.iter().map(|field| key_field(auth, field, entered)));
                if let Some(problem) = problem {
                    mark_wrong(&mut fields, problem);
                }
                let page = match &auth.note {
                    Some(note) => page.text(&sentence(&format!("{}: {note}", auth.label))),
                    None => page,
                };
                let page = match &provider.about.key_url {
                    Some(url) => {
                        page.external_link(&format!("Get a key at {}", provider.name), url)
                    }
                    None => page,
                };
                let insists = problem.is_some_and(|problem| problem.may_insist);
                let query = format!("{query}&step=key{}", if insists { "&anyway=yes" } else { "" });
                page.form(&query, &fields, "Connect")
                    .text("The key is tested, stored encrypted, and never shown again.")
            }
        };
        let status = match problem {
            Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
            None => StatusCode::OK,
        };
        self.with_back(page, "Back without connecting").answer(status)
    }

    /// The way to the provider.
    pub(super) fn forward_to_provider(&self, provider: &str, url: &str) -> Response {
        let page = self.page(&format!("To {provider}"));
        page.text(&format!("You are sent to {provider}.")).forward_to(url).answer(StatusCode::OK)
    }

    /// Another account than the connection had.
    pub(super) fn other_account(&self, other: &OtherAccount) -> Response {
        let said = match &other.account {
            Some(_) => "You consented with another account than this connection had.",
            None => {
                "The provider does not say which account you consented with. It may be another than this \
                 connection had."
            }
        };
        self.page("Another account")
            .text(said)
            .fact("Connected so far", &other.before)
            .fact("Now", other.account.as_deref().unwrap_or("unknown"))
            .text("Programs that use this connection would act as the new one.")
            .button("Use the new account", "?step=account&accept=yes")
            .button("Keep the old one", "?step=account&accept=no")
            .answer(StatusCode::OK)
    }

    /// The browser is at the provider, in another tab.
    pub(super) fn at_provider(&self, provider: &str, again: &str) -> Response {
        let page = self.page(&format!("Continue at {provider}"));
        page.text("Finish in the tab that was opened there, or start again.")
            .links(&[("Start again", again)])
            .answer(StatusCode::OK)
    }

    /// The account is connected. The browser goes back at once.
    pub(super) fn done(&self, provider: &str) -> Response {
        let page = self.page("Connected").text(&format!("Your {provider} account is connected."));
        match &self.back {
            Some(url) => {
                page.text(&format!("You are sent back to {}.", self.name())).forward_to(url)
            }
            None => page.text("You can close this window."),
        }
        .answer(StatusCode::OK)
    }

    /// The last attempt has failed, and there may be another.
    pub(super) fn failed(&self, why: &str, again: &str) -> Response {
        let page = self.page("Not connected").alert(&sentence(why));
        let page = page.text("Nothing was kept.").links(&[("Try again", again)]);
        self.with_back(page, "Back without connecting").answer(StatusCode::OK)
    }
}

/// A link that cannot be used.
pub(super) fn refused(brand: &Branding, status: StatusCode, why: &str, remedy: &str) -> Response {
    HtmlPage::branded("This link cannot be used", brand).text(why).text(remedy).answer(status)
}

fn with_problem(page: HtmlPage, problem: Option<&FormProblem>) -> HtmlPage {
    let Some(problem) = problem else { return page };
    let page = page.alert(&sentence(&problem.message));
    let page = match &problem.hint {
        Some(hint) => page.text(&sentence(hint)),
        None => page,
    };
    match problem.may_insist {
        true => page.text("If it is correct, enter it again: then it is tested as it is."),
        false => page,
    }
}

fn variable(variable: &Variable, entered: &EnteredValues) -> FormField {
    let name = format!("{VARIABLE}{}", variable.name);
    let default = variable.default.as_deref().unwrap_or_default();
    let value = entered.get(&name).unwrap_or(default).to_owned();
    let input = match variable.choices.is_empty() {
        true => FormInput::Text { value, example: variable.example.clone() },
        false => FormInput::Choice { choices: variable.choices.clone(), chosen: value },
    };
    FormField {
        name,
        label: variable.label.clone(),
        help: variable.help.clone(),
        input,
        optional: !default.is_empty(),
        wrong: false,
    }
}

fn key_field(auth: &AuthMethod, field: &Field, entered: &EnteredValues) -> FormField {
    let name = format!("{FIELD}{}", field.name);
    let value = entered.get(&name).unwrap_or_default().to_owned();
    FormField {
        label: field.label.clone(),
        help: field.help.clone(),
        input: match (auth.is_multiline(field), field.secret) {
            (true, _) => FormInput::Lines(value),
            (false, true) => FormInput::Secret,
            (false, false) => FormInput::Text { value, example: None },
        },
        name,
        optional: field.optional,
        wrong: false,
    }
}

/// Marks the field that a problem is about: the named one, or the only one.
fn mark_wrong(fields: &mut [FormField], problem: &FormProblem) {
    let is_only = fields.len() == 1;
    for field in fields {
        field.wrong = is_only || problem.input.as_ref() == Some(&field.name);
    }
}

pub(super) const ASK_AGAIN: &str = "Ask for another link where you got this one.";

pub(super) fn unknown_browser_page(admin: &Admin) -> Response {
    let brand = admin.deps().connect.borrow().branding.clone();
    let why = "This browser did not open the link, or the link has ended.";
    refused(&brand, StatusCode::FORBIDDEN, why, ASK_AGAIN)
}

pub(super) fn foreign_page(admin: &Admin) -> Response {
    let brand = admin.deps().connect.borrow().branding.clone();
    let why = "This form was sent by another site.";
    refused(&brand, StatusCode::FORBIDDEN, why, "Open the link, and use its own buttons.")
}

pub(super) fn ended_page(admin: &Admin) -> Response {
    let brand = admin.deps().connect.borrow().branding.clone();
    let why = "This link has ended: links work once, and for 30 minutes.";
    refused(&brand, StatusCode::GONE, why, ASK_AGAIN)
}

pub(super) fn failure_page(admin: &Admin, error: &ApiError) -> Response {
    let text = error.text();
    let brand = admin.deps().connect.borrow().branding.clone();
    let why = crate::html::sentence(&text.message);
    refused(&brand, text.code.status(), &why, "Nothing was kept. Open the link again.")
}
