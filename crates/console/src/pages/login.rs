//! `/login`: sign-in with a password, a passkey, an identity provider or a one-time link. It works without the script.

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::frame::Page;
use crate::parts::copyable;
use crate::visit::{Console, PageError, Reader, said, segment, sentence};
use keyward_api::handler::{boxed, get};
use keyward_api::own_path;
use keyward_api::wire::ErrorView;
use keyward_base::sign_in::SignInSettings;

/// Longest form: a link or a password, and a path.
const FORM_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    link: Option<String>,
    to: Option<String>,
}

/// What the form gives. Secrets are wiped.
#[derive(Default)]
struct LoginForm {
    link: Option<Zeroizing<String>>,
    user: Option<String>,
    password: Option<Zeroizing<String>>,
    totp: Option<Zeroizing<String>>,
    to: String,
}

/// The body of the sign-in.
#[derive(Serialize)]
struct SignIn<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    totp: Option<&'a str>,
}

/// What the page shows.
struct View<'a> {
    settings: &'a SignInSettings,
    /// Where the sign-in leads.
    to: &'a str,
    /// The user who was given before.
    user: Option<&'a str>,
    error: Option<&'a ErrorView>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/login", get(ask).post(boxed(sign_in)))
}

async fn ask(State(console): State<Console>, Query(asked): Query<PageQuery>) -> Page {
    let to = own_path(asked.to.as_deref().unwrap_or_default());
    match asked.link.filter(|link| !link.is_empty()) {
        Some(link) => page(with_link(&link, to)),
        None => page(View { settings: &console.sign_in, to, user: None, error: None }.show()),
    }
}

async fn sign_in(State(console): State<Console>, reader: Reader, request: Request) -> Response {
    let given = LoginForm::of(request.into_body()).await.unwrap_or_default();
    let again = |status: StatusCode, error: Option<&ErrorView>| {
        let (settings, to) = (&*console.sign_in, own_path(&given.to));
        let user = given.user.as_deref();
        (status, page(View { settings, to, user, error }.show())).into_response()
    };
    let Some(body) = given.body() else {
        return again(StatusCode::UNPROCESSABLE_ENTITY, None);
    };
    match reader.call(Method::POST, "/session", body).await {
        Ok((fields, _)) => {
            let mut answer = Redirect::to(own_path(&given.to)).into_response();
            for cookie in fields.get_all(header::SET_COOKIE) {
                answer.headers_mut().append(header::SET_COOKIE, cookie.clone());
            }
            answer
        }
        Err(PageError::SignIn(_, error)) => again(StatusCode::UNAUTHORIZED, Some(&error)),
        Err(PageError::Missing(_, error)) => again(StatusCode::NOT_FOUND, Some(&error)),
        Err(PageError::Refused(status, error)) => again(status, Some(&error)),
    }
}

impl LoginForm {
    async fn of(body: Body) -> Option<Self> {
        let body = Limited::new(body, FORM_BYTES_MAX).collect().await.ok()?.to_bytes();
        let body = Zeroizing::new(body.to_vec());
        let mut given = Self::default();
        for (name, value) in form_urlencoded::parse(&body) {
            let value = Zeroizing::new(value.into_owned());
            match &*name {
                _ if value.is_empty() => {}
                "link" => given.link = Some(value),
                "user" => given.user = Some(value.to_string()),
                "password" => given.password = Some(value),
                "totp" => given.totp = Some(value),
                "to" => given.to.clone_from(&value),
                _ => {}
            }
        }
        Some(given)
    }

    /// `None`: nothing is given.
    fn body(&self) -> Option<Body> {
        let Self { link, user, password, totp, .. } = self;
        if link.is_none() && user.is_none() && password.is_none() {
            return None;
        }
        let sign_in = SignIn {
            link: link.as_deref().map(String::as_str),
            user: user.as_deref(),
            password: password.as_deref().map(String::as_str),
            totp: totp.as_deref().map(String::as_str),
        };
        let mut body = Zeroizing::new(Vec::with_capacity(FORM_BYTES_MAX));
        serde_json::to_writer(&mut *body, &sign_in).ok()?;
        Some(Body::from(Bytes::from_owner(body)))
    }
}

fn page(content: Markup) -> Page {
    Page::alone("Sign in", content)
}

/// A click, because mail programs and chats open links to preview them.
fn with_link(link: &str, to: &str) -> Markup {
    html! {
        h1 { "Sign in" }
        p.muted { "This link signs this browser in once." }
        br;
        form method="post" action="/login" {
            input type="hidden" name="link" value=(link);
            input type="hidden" name="to" value=(to);
            button.first autofocus { "Sign in" }
        }
    }
}

impl View<'_> {
    /// The ways to sign in; after one that failed, why.
    fn show(&self) -> Markup {
        html! {
            h1 { "Sign in" }
            br;
            @if let Some(error) = self.error { (refusal(error)) }
            (with_provider(self.settings, self.to))
            @if self.settings.password { (self.with_password()) }
            @if self.settings.passkeys { (self.with_passkey()) }
            (link_help(self.settings.password))
            br;
            p.small { a href="/ca" { "The certificate authority of this gateway" } }
        }
    }

    /// The field for the code appears after an answer requests it. Without the script, the page is then loaded again,
    /// and the user types the password again, because no page contains it.
    fn with_password(&self) -> Markup {
        let asks_code = self.error.is_some_and(|error| error.code == "totp_required");
        html! {
            form method="post" action="/login" data-api="POST /session" data-leave data-to=(self.to) {
                input type="hidden" name="to" value=(self.to) data-path;
                div.field {
                    label for="user" { "User" }
                    input #user name="user" value=[self.user] required autocomplete="username" spellcheck="false"
                        autocapitalize="off" autofocus[self.user.is_none()] aria-describedby="user-help";
                    p.help #user-help { "In another organisation than default: " code { "ORG/NAME" } "." }
                }
                div.field {
                    label for="password" { "Password" }
                    input #password name="password" type="password" required autocomplete="current-password"
                        autofocus[self.user.is_some()];
                }
                fieldset.field data-second hidden[!asks_code] disabled[!asks_code] {
                    label for="totp" { "One-time code" }
                    input #totp name="totp" required autocomplete="one-time-code" inputmode="numeric" spellcheck="false"
                        aria-describedby="totp-help";
                    p.help #totp-help { "Six digits, from your authenticator program." }
                }
                button.first { "Sign in" }
            }
            br;
        }
    }
}

impl View<'_> {
    /// The script shows it where the browser has passkeys.
    fn with_passkey(&self) -> Markup {
        html! {
            div.actions.whole { button type="button" data-passkey data-to=(self.to) hidden { "Sign in with a passkey" } }
        }
    }
}

/// The button that leads to the identity provider, if one is configured. A link: GET changes nothing, and the page may
/// send forms to this origin only.
fn with_provider(settings: &SignInSettings, to: &str) -> Markup {
    let path = format!("/login/oidc?to={}", segment(to));
    html! {
        @if let Some(oidc) = &settings.oidc {
            a.button.first href=(path) { "Sign in with " (oidc.name) }
            br;
            br;
        }
    }
}

fn refusal(error: &ErrorView) -> Markup {
    html! {
        div.wrong-box role="alert" {
            p { (said(error)) }
            @if let Some(hint) = &error.hint { p { (sentence(hint)) } }
        }
    }
}

/// How to get a link.
fn link_help(has_password: bool) -> Markup {
    html! {
        p { @if has_password { "Or open" } @else { "Open" } " a link that signs you in. On the gateway’s machine, this command prints one:" }
        br;
        (copyable("keyward login-link"))
        br;
        p.small.muted { "It works once, for 10 minutes. An admin can make one for you, on your page under People." }
    }
}
