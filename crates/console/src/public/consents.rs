//! The pages of a consent: `/oauth/start`, the callback, and the result.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderValue, StatusCode, header};
use maud::html;

use super::page::{PublicPage, asked_scopes, button, links, other_account};
use crate::parts::{facts, with_code};
use crate::words::sentence;
use keyward_api::consents::{
    self, CallbackRefusal, ConsentRefusal, ConsentStep, FlowState, FlowView, StartPage,
};
use keyward_api::handler::{boxed, get};
use keyward_api::{Admin, ApiError, PageRequest};

/// The interval at which the page of an unfinished consent looks for its result.
const RELOAD_SECONDS: u32 = 5;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/oauth/start/{ticket}", get(start).post(boxed(begin)))
        .route("/oauth/callback/{app}", get(callback).post(boxed(posted)))
        .route("/oauth/posted/{app}/{handle}", get(resumed))
        .route("/oauth/done/{flow}", get(done).post(boxed(decide)))
}

async fn start(request: PageRequest, Path(ticket): Path<String>) -> Response {
    answered(consents::start(&request, &ticket).await)
}

async fn begin(request: PageRequest, Path(ticket): Path<String>) -> Response {
    answered(consents::begin(&request, &ticket).await)
}

async fn callback(request: PageRequest, Path(app): Path<String>) -> Response {
    answered(consents::callback(&request, &app).await)
}

async fn posted(request: PageRequest, Path(app): Path<String>, body: Body) -> Response {
    answered(consents::posted(&request, &app, body).await)
}

async fn resumed(request: PageRequest, Path((app, handle)): Path<(String, String)>) -> Response {
    answered(consents::resumed(&request, &app, &handle).await)
}

async fn done(request: PageRequest, Path(flow): Path<String>) -> Response {
    answered(consents::done(&request, &flow).await)
}

async fn decide(request: PageRequest, Path(flow): Path<String>) -> Response {
    answered(Box::pin(consents::decide(&request, &flow)).await)
}

fn answered(step: Result<ConsentStep, ConsentRefusal>) -> Response {
    let page = match step {
        Ok(ConsentStep::Offered { page, cookie }) => {
            let mut answer = offered(&page).answer(StatusCode::OK);
            answer.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
            return answer;
        }
        Ok(ConsentStep::ToProvider { origin, url }) => {
            let content = html! { p { "You are sent to " (origin) "." } };
            PublicPage::new("To the provider", content).forward_to(&url)
        }
        Ok(ConsentStep::Back { to }) => {
            let content = html! { p { "You are sent on." } };
            PublicPage::new("Back from the provider", content).forward_to(&to)
        }
        Ok(ConsentStep::Moved { to }) => return Redirect::to(&to).into_response(),
        Ok(ConsentStep::State(view)) => result(&view),
        Err(refusal) => return refused(&refusal),
    };
    page.answer(StatusCode::OK)
}

fn offered(page: &StartPage) -> PublicPage {
    let created = page.created.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let content = html! {
        p {
            "Agents that may use this connection will act with the account that you choose at the provider. Go on only if you started this yourself."
        }
        (facts(&[
            ("Connection", Some(html! { (page.connection) })),
            ("Started by", Some(html! { (page.person) })),
            ("At", Some(html! { (created) })),
            ("App", Some(html! { (page.app) })),
            ("Asks for", Some(asked_scopes(&page.scopes, &page.scope_words))),
            ("Account so far", page.account.as_ref().map(|account| html! { (account) })),
        ]))
        @if let Some(hint) = &page.hint { p { (with_code(hint)) } }
        (button(&format!("Continue to {}", page.goes_to), ""))
    };
    PublicPage::new(format!("Connect {}", page.provider), content)
}

fn result(view: &FlowView) -> PublicPage {
    match &view.state {
        FlowState::Open => {
            let content = html! {
                p { "This consent is not finished yet. This page shows the result when there is one." }
            };
            PublicPage::new("Not finished", content).reload_after(RELOAD_SECONDS)
        }
        FlowState::Held { .. } => {
            PublicPage::new("Not finished", html! { p { "This consent is not finished yet." } })
        }
        FlowState::Failed { why } => {
            let connection = format!("/connections/{}", view.connection);
            let content = html! {
                p { (with_code(why)) }
                (links(&[("Open it in the console", &*connection)]))
            };
            PublicPage::new("Not connected", content)
        }
        FlowState::Connected { ends } => {
            let next = format!("/connect/done/{}", view.connection);
            let content = html! {
                p { "You can close this window." }
                (links(&[("Continue in the console", &*next)]))
                @if *ends {
                    p { "The provider gave no refresh token: this access will end, and you will have to connect again." }
                }
            };
            PublicPage::new("Connected", content)
        }
        FlowState::Confirm { before, account } => {
            other_account(before, account.as_deref(), "Agents", "?")
        }
    }
}

fn refused(refusal: &ConsentRefusal) -> Response {
    match refusal {
        ConsentRefusal::Callback(refusal) => callback_refused(refusal),
        ConsentRefusal::Method => ApiError::Method.into_response(),
        ConsentRefusal::Private => {
            let content = html! {
                p { (with_code("This gateway belongs to `keyward run` and ends with it.")) }
                p { (with_code("Start a gateway that keeps running, `keyward serve`, and begin again.")) }
            };
            PublicPage::new("No consents here", content).answer(StatusCode::FORBIDDEN)
        }
        ConsentRefusal::OtherHost { public_url, start } => {
            let content = html! {
                p {
                    "This page was opened at another host than that of " code { "public_url" } ", " code { (public_url) }
                    ", where the provider sends your browser back. Nothing was changed. Begin there."
                }
                (links(&[("Begin there", &**start)]))
            };
            PublicPage::new("Another address", content).answer(StatusCode::FORBIDDEN)
        }
    }
}

fn callback_refused(refusal: &CallbackRefusal) -> Response {
    // The same address may have connected the account before.
    let (title, next) = match refusal {
        CallbackRefusal::NoFlow => (
            "Consent ended",
            "If it connected the account before, the account stays connected. Otherwise start again from the command \
             line or the console.",
        ),
        _ => (
            "Not connected",
            "Nothing was changed. Start again from the command line or the console.",
        ),
    };
    let retry_after = refusal.retry_after();
    let content = html! {
        p { (with_code(&sentence(&refusal.to_string()))) }
        // The page stays valid if the server that it leads to is unavailable.
        @if retry_after.is_some() {
            p { "Nothing was changed. Try again in a moment." }
        } @else {
            p { (next) }
            (links(&[("Go to the connections in the console", "/connections")]))
        }
    };
    let mut answer = PublicPage::new(title, content).answer(refusal.status());
    let seconds = retry_after.map(HeaderValue::from);
    answer.headers_mut().extend(seconds.map(|seconds| (header::RETRY_AFTER, seconds)));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gateway of `run` is gone when the browser comes back.
    #[test]
    fn a_private_gateway_forbids_consents_and_a_method_is_refused_as_by_the_api() {
        let status = |refusal: ConsentRefusal| refused(&refusal).status();
        assert_eq!(status(ConsentRefusal::Private), StatusCode::FORBIDDEN);
        assert_eq!(status(ConsentRefusal::Method), StatusCode::METHOD_NOT_ALLOWED);
        let down = callback_refused(&CallbackRefusal::Down("it is away".to_owned()));
        assert_eq!(down.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(down.headers().contains_key(header::RETRY_AFTER));
    }
}
