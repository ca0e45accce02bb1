//! `/login`: sign-in with a one-time link, or with name and password. It works without the script.

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::frame::Page;
use crate::visit::{Console, Reader, Stop, sentence};
use keyward_api::wire::ErrorView;

/// Longest form: a link, or a name, a password and a code.
const FORM_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    link: Option<String>,
    to: Option<String>,
}

/// What the form gives. It is wiped.
#[derive(Default)]
struct Given {
    link: Option<Zeroizing<String>>,
    user: Option<Zeroizing<String>>,
    password: Option<Zeroizing<String>>,
    totp: Option<Zeroizing<String>>,
    to: String,
}

/// The body of the sign-in.
#[derive(Serialize)]
#[serde(untagged)]
enum SignIn<'a> {
    Link {
        link: &'a str,
    },
    Password {
        user: &'a str,
        password: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        totp: Option<&'a str>,
    },
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/login", get(ask).post(sign_in))
}

async fn ask(Query(asked): Query<Asked>) -> Page {
    let to = own_path(asked.to.as_deref().unwrap_or_default());
    match asked.link.filter(|link| !link.is_empty()) {
        Some(link) => page(with_link(&link, to)),
        None => page(with_password(None, to, None)),
    }
}

async fn sign_in(reader: Reader, request: Request) -> Response {
    let Some(given) = Given::of(request.into_body()).await else {
        return (StatusCode::BAD_REQUEST, page(with_password(None, "/", None))).into_response();
    };
    let to = own_path(&given.to).to_owned();
    let Some(body) = given.body() else {
        return (StatusCode::UNPROCESSABLE_ENTITY, page(with_password(None, &to, None)))
            .into_response();
    };
    match reader.whole(Method::POST, "/session", body).await {
        Ok((fields, _)) => {
            let mut answer = Redirect::to(&to).into_response();
            for cookie in fields.get_all(header::SET_COOKIE) {
                answer.headers_mut().append(header::SET_COOKIE, cookie.clone());
            }
            answer
        }
        Err(Stop::SignIn(_, error)) => refused(StatusCode::UNAUTHORIZED, &given, &to, &error),
        Err(Stop::Refused(status, error)) => refused(status, &given, &to, &error),
    }
}

fn refused(status: StatusCode, given: &Given, to: &str, error: &ErrorView) -> Response {
    let user = given.user.as_ref().map(|user| user.as_str());
    (status, page(with_password(user, to, Some(error)))).into_response()
}

impl Given {
    async fn of(body: Body) -> Option<Self> {
        let body = Limited::new(body, FORM_BYTES_MAX).collect().await.ok()?.to_bytes();
        let body = Zeroizing::new(body.to_vec());
        let mut given = Self::default();
        for (name, value) in form_urlencoded::parse(&body) {
            let value = Zeroizing::new(value.into_owned());
            let field = match &*name {
                "link" => &mut given.link,
                "user" => &mut given.user,
                "password" => &mut given.password,
                "totp" => &mut given.totp,
                "to" => {
                    given.to.clone_from(&value);
                    continue;
                }
                _ => continue,
            };
            *field = Some(value).filter(|value| !value.is_empty());
        }
        Some(given)
    }

    fn body(&self) -> Option<Body> {
        let sign_in = match (&self.link, &self.user, &self.password) {
            (Some(link), ..) => SignIn::Link { link },
            (None, Some(user), Some(password)) => {
                let totp = self.totp.as_ref().map(|code| code.as_str());
                SignIn::Password { user, password, totp }
            }
            _ => return None,
        };
        let mut body = Zeroizing::new(Vec::with_capacity(FORM_BYTES_MAX));
        serde_json::to_writer(&mut *body, &sign_in).ok()?;
        Some(Body::from(Bytes::from_owner(body)))
    }
}

/// A path of this origin; anything else becomes `/`, so that the sign-in leads nowhere else.
fn own_path(text: &str) -> &str {
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_path && is_plain { text } else { "/" }
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

fn with_password(user: Option<&str>, to: &str, error: Option<&ErrorView>) -> Markup {
    html! {
        h1 { "Sign in" }
        br;
        @if let Some(error) = error {
            div.wrong-box role="alert" {
                p { (sentence(&error.message)) }
                @if let Some(hint) = &error.hint { p { (sentence(hint)) } }
            }
        }
        form method="post" action="/login" {
            input type="hidden" name="to" value=(to);
            div.field { label for="user" { "Name" } input #user name="user" value=[user] required autocomplete="username" autocapitalize="off" spellcheck="false"; }
            div.field { label for="password" { "Password" } input #password name="password" type="password" required autocomplete="current-password"; }
            div.field {
                label for="totp" { "Code" span.muted { " (if you have set one up)" } }
                input #totp name="totp" inputmode="numeric" autocomplete="one-time-code" maxlength="8";
            }
            button.first { "Sign in" }
        }
        br;
        p.small.muted { "No password yet? Run " code { "keyward login-link" } " on the gateway’s machine, or ask an admin for a link." }
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
