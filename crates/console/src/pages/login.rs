//! `/login`: sign-in with a one-time link, or with an identity provider. It works without the script.

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::frame::Page;
use crate::parts::copyable;
use crate::visit::{Console, Reader, Stop, segment, sentence};
use keyward_api::own_path;
use keyward_api::wire::ErrorView;

/// Longest form: a link and a path.
const FORM_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    link: Option<String>,
    to: Option<String>,
}

/// What the form gives. The link is wiped.
#[derive(Default)]
struct Given {
    link: Option<Zeroizing<String>>,
    to: String,
}

/// The body of the sign-in.
#[derive(Serialize)]
struct SignIn<'a> {
    link: &'a str,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/login", get(ask).post(sign_in))
}

async fn ask(State(console): State<Console>, Query(asked): Query<Asked>) -> Page {
    let to = own_path(asked.to.as_deref().unwrap_or_default());
    match asked.link.filter(|link| !link.is_empty()) {
        Some(link) => page(with_link(&link, to)),
        None => page(without_link(None, &with_provider(&console, to))),
    }
}

async fn sign_in(State(console): State<Console>, reader: Reader, request: Request) -> Response {
    let given = Given::of(request.into_body()).await.unwrap_or_default();
    let provider = with_provider(&console, own_path(&given.to));
    let Some(body) = given.body() else {
        let page = page(without_link(None, &provider));
        return (StatusCode::UNPROCESSABLE_ENTITY, page).into_response();
    };
    let refused = |status, error: &ErrorView| {
        (status, page(without_link(Some(error), &provider))).into_response()
    };
    match reader.whole(Method::POST, "/session", body).await {
        Ok((fields, _)) => {
            let mut answer = Redirect::to(own_path(&given.to)).into_response();
            for cookie in fields.get_all(header::SET_COOKIE) {
                answer.headers_mut().append(header::SET_COOKIE, cookie.clone());
            }
            answer
        }
        Err(Stop::SignIn(_, error)) => refused(StatusCode::UNAUTHORIZED, &error),
        Err(Stop::Refused(status, error)) => refused(status, &error),
    }
}

impl Given {
    async fn of(body: Body) -> Option<Self> {
        let body = Limited::new(body, FORM_BYTES_MAX).collect().await.ok()?.to_bytes();
        let body = Zeroizing::new(body.to_vec());
        let mut given = Self::default();
        for (name, value) in form_urlencoded::parse(&body) {
            let value = Zeroizing::new(value.into_owned());
            match &*name {
                "link" if !value.is_empty() => given.link = Some(value),
                "to" => given.to.clone_from(&value),
                _ => {}
            }
        }
        Some(given)
    }

    fn body(&self) -> Option<Body> {
        let mut body = Zeroizing::new(Vec::with_capacity(FORM_BYTES_MAX));
        serde_json::to_writer(&mut *body, &SignIn { link: self.link.as_ref()? }).ok()?;
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

/// The button that leads to the identity provider, if one is configured. A link: GET changes nothing, and the page may
/// send forms to this origin only.
fn with_provider(console: &Console, to: &str) -> Markup {
    let path = format!("/login/oidc?to={}", segment(to));
    html! {
        @if let Some(name) = &console.oidc {
            a.button.first href=(path) { "Sign in with " (name) }
            br;
            br;
        }
    }
}

/// How to sign in without a link, and how to get one; after one that does not work, why.
fn without_link(error: Option<&ErrorView>, provider: &Markup) -> Markup {
    html! {
        h1 { "Sign in" }
        br;
        @if let Some(error) = error {
            div.wrong-box role="alert" {
                p { (sentence(&error.message)) }
                @if let Some(hint) = &error.hint { p { (sentence(hint)) } }
            }
        }
        (provider)
        p { "Open a link that signs you in. On the gateway’s machine, this command prints one:" }
        br;
        (copyable("keyward login-link"))
        br;
        p.small.muted { "It works once, for 10 minutes. An admin can make one for you: " code { "keyward login-link --user NAME" } "." }
        br;
        p.small { a href="/ca" { "The certificate authority of this gateway" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_in_leads_to_pages_of_this_origin_only() {
        for foreign in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nb",
            "evil",
            "/ä",
        ] {
            assert_eq!(own_path(foreign), "/", "{foreign:?}");
        }
        assert_eq!(own_path("/connections?state=broken"), "/connections?state=broken");
    }
}
