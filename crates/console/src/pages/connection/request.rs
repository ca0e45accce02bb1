//! A request that a person sends with a connection, under the rules for people, and the answer to it.

use maud::{Markup, html};

use crate::parts::Field;
use crate::visit::{Visit, segment};
use keyward_model::{Connection, ConnectionState, Shown};
use keyward_rules::provider::AuthKind;

/// The dialog of the form.
const FORM: &str = "send-request";
/// The dialog of the answer.
const ANSWER: &str = "request-answer";

/// The button that opens the form, if the reader may use the connection, and it is to an HTTP API.
pub(super) fn button(visit: &Visit, connection: &Shown<Connection>) -> Markup {
    html! { @if is_possible(visit, connection) { button data-open=(FORM) { "Send a request" } } }
}

fn is_possible(visit: &Visit, connection: &Shown<Connection>) -> bool {
    let facts = &connection.facts;
    let is_http = facts.database.is_none() && facts.kind.is_none_or(AuthKind::is_of_requests);
    visit.may_write() && is_http && facts.state == ConnectionState::Active
}

pub(super) fn dialogs(visit: &Visit, connection: &Shown<Connection>) -> Markup {
    let path = Field {
        name: "path",
        label: "Path or URL",
        example: Some("/v1/items?limit=1"),
        help: Some(
            "At a host of the connection. The rules for people apply, and the audit log records it.",
        ),
        ..Field::default()
    };
    let body = Field {
        name: "body",
        label: "Body (JSON)",
        is_multiline: true,
        json: Some("raw"),
        is_optional: true,
        ..Field::default()
    };
    let api = format!("POST /connections/{}/request", segment(&connection.spec.name));
    html! { @if is_possible(visit, connection) {
        dialog #(FORM) aria-labelledby="send-request-title" {
            h2 #send-request-title { "Send a request with " (connection.spec.name) }
            form method="post" data-api=(api) data-fill=(ANSWER) data-keeps {
                div.field {
                    label for="field-method" { "Method" }
                    select #field-method name="method" {
                        @for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] { option { (method) } }
                    }
                }
                (path.show())
                (body.show())
                div.actions { button type="button" data-close { "Cancel" } button.first { "Send request" } }
            }
        }
        dialog.broad #(ANSWER) aria-labelledby="request-answer-title" {
            h2 #request-answer-title { "Answer: " span data-cell="status" {} }
            pre.code tabindex="0" data-cell="body" {}
            p.small.muted { "Exchange " code data-cell="exchange" {} }
            div.actions { button type="button" data-close { "Close" } }
        }
    } }
}
