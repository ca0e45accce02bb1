//! `/errors`: what each code of a refusal means and what to do about it, made from the table of codes. The bodies of
//! refusals link to it. It is the same on every gateway of a version, so it discloses nothing of the installation.

use axum::Router;
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};

use super::page::PublicPage;
use crate::parts::{facts, with_code};
use keyward_api::Admin;
use keyward_api::handler::get;
use keyward_base::codes::{Code, CodeRow, ERRORS_PATH, Sender};

pub(super) fn routes() -> Router<Admin> {
    Router::new().route(ERRORS_PATH, get(page))
}

async fn page() -> Response {
    let content = html! {
        p {
            (with_code("Each refusal has a code. Codes stay the same between versions; messages and hints may change. \
                `keyward explain` shows in advance whether a request would be refused, and `keyward audit query --code CODE` \
                finds refusals."))
        }
        @for (code, rows) in Code::rows() {
            h2 id=(code) { code { (code) } }
            @for row in &rows { (section(row)) }
        }
    };
    PublicPage::new("Errors", content).answer(StatusCode::OK)
}

fn section(row: &CodeRow) -> Markup {
    let sender = match row.sender {
        Sender::Proxy(_) => "the proxy",
        Sender::Api => "the API",
        Sender::Both(_) => "the proxy and the API",
    };
    html! {
        (facts(&[("Status", Some(html! { (row.status) ", sent by " (sender) }))]))
        p { (with_code(&without_links(row.meaning))) }
        p { (with_code(&format!("What to do: {}.", row.remedy))) }
    }
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
