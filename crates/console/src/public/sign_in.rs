//! `/login/oidc`: the way to the identity provider and back. A refusal is a page that says which requirement failed and
//! what to do.

use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use http::{StatusCode, header};
use maud::html;

use super::page::{PublicPage, alert, links};
use crate::parts::with_code;
use crate::visit::segment;
use crate::words::sentence;
use keyward_api::handler::get;
use keyward_api::oidc::{self, NotSignedIn, SignInAnswer};
use keyward_api::{Admin, PageRequest};

pub(super) fn routes() -> Router<Admin> {
    Router::new().route(oidc::SIGN_IN, get(start)).route(oidc::CALLBACK, get(callback))
}

async fn start(request: PageRequest) -> Response {
    answered(oidc::start(&request).await)
}

async fn callback(request: PageRequest) -> Response {
    answered(Box::pin(oidc::callback(&request)).await)
}

fn answered(SignInAnswer { to, cookies }: SignInAnswer) -> Response {
    let mut answer = match to {
        Ok(to) => Redirect::to(&to).into_response(),
        Err(refusal) => refused(refusal),
    };
    for cookie in cookies {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

fn refused(refusal: NotSignedIn) -> Response {
    let other_way = ("Sign in another way", "/login");
    let (status, content) = match refusal {
        NotSignedIn::NoProvider => {
            let content = html! {
                p { "This gateway has no identity provider to sign in with." }
                p { (with_code("The operator can name one: `sign_in.oidc` of the configuration.")) }
                (links(&[other_way]))
            };
            (StatusCode::NOT_FOUND, content)
        }
        NotSignedIn::TooMany => {
            let content = html! {
                p { "Too many sign-ins from your network failed." }
                p { "Wait a minute, then start again." }
            };
            (StatusCode::TOO_MANY_REQUESTS, content)
        }
        NotSignedIn::Refused { status, why, remedy, to } => {
            let again = format!("{}?to={}", oidc::SIGN_IN, segment(&to));
            let content = html! {
                (alert(&why))
                p { (with_code(&sentence(&remedy))) }
                (links(&[("Try again", &*again), other_way]))
            };
            (status, content)
        }
        NotSignedIn::Api(error) => return error.into_response(),
    };
    PublicPage::new("Not signed in", content).answer(status)
}
