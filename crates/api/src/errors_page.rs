//! `GET /errors` of the TCP listener: what each code of a refusal means and what to do about it, made from the table of
//! codes. The bodies of refusals link to it. It is public and the same on every gateway of a version, so it discloses
//! nothing of the installation.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{StatusCode, header};

use super::html::HtmlPage;
use super::state::Admin;
use super::wire::ErrorBody;
use crate::handler::get;
use keyward_base::codes::{Code, CodeRow, ERRORS_PATH, Sender};

pub(super) fn routes() -> Router<Admin> {
    Router::new().route(ERRORS_PATH, get(page))
}

async fn page() -> Response {
    let page = HtmlPage::new("Errors").text(
        "Each refusal has a code. Codes stay the same between versions; messages and hints may change. \
         `keyward explain` shows in advance whether a request would be refused, and `keyward audit query --code CODE` \
         finds refusals.",
    );
    let page = Code::rows()
        .into_iter()
        .fold(page, |page, (code, rows)| rows.iter().fold(page.anchor(code), section));
    page.answer(StatusCode::OK)
}

fn section(page: HtmlPage, row: &CodeRow) -> HtmlPage {
    let sender = match row.sender {
        Sender::Proxy(_) => "the proxy",
        Sender::Api => "the API",
        Sender::Both(_) => "the proxy and the API",
    };
    page.fact("Status", &format!("{}, sent by {sender}", row.status))
        .text(&without_links(row.meaning))
        .text(&format!("What to do: {}.", row.remedy))
}

/// The text without the links to pages of the documentation: `[text](page)` becomes `text`.
fn without_links(text: &str) -> String {
    let mut parts = text.split('[');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once("](").and_then(|(text, rest)| Some((text, rest.split_once(')')?.1))) {
            Some((text, rest)) => plain.extend([text, rest]),
            None => plain.extend(["[", part]),
        }
    }
    plain
}

/// Adds the link to this page to the body of a refusal, where a gateway serves the page and stays.
pub(super) async fn link(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let code = response.extensions().get::<Code>().copied();
    let body = response.extensions_mut().remove::<ErrorBody>();
    if let (Some(code), Some(mut body), Some(page)) = (code, body, admin.errors_page()) {
        body.error.docs = Some(code.docs(&page));
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Json(body).into_response().into_body();
    }
    response
}

impl Admin {
    /// The URL of this page; `None` without a listener, and on the gateway of a run, which ends with it.
    fn errors_page(&self) -> Option<String> {
        let is_served = self.locations().is_some() && !self.runs().is_private();
        is_served.then(|| format!("{}{ERRORS_PATH}", self.deps().public_url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_their_text_and_other_brackets_stay() {
        for (text, plain) in [
            ("a [set of hosts](host-sets.md) of it", "a set of hosts of it"),
            ("[a](b)[c](d)", "ac"),
            ("a [b] c", "a [b] c"),
            ("a [b](c", "a [b](c"),
            ("", ""),
        ] {
            assert_eq!(without_links(text), plain);
        }
    }
}
