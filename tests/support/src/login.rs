//! A browser that is signed in: its cookie and its CSRF value. What sets the cookie is read over a stream of its own,
//! because labs search what their clients saw for secrets.

use serde_json::{Value, json};

use super::canary::Canary;
use super::lab::Lab;
use super::wire::{Message, Wire};

/// A login.
#[derive(Clone, Debug)]
pub struct Login {
    pub id: String,
    /// The token in its cookie.
    pub token: String,
    pub csrf: String,
}

impl Login {
    /// Signs a user of an organisation in.
    pub async fn of(lab: &mut Lab, org: &str, user: &str) -> Self {
        let link = link_in(lab, org, json!({"user": user})).await;
        let answer = sign_in(lab, &link, "").await.is(200);
        Self::in_answer(lab, &answer)
    }

    /// The login that an answer makes.
    pub fn in_answer(lab: &mut Lab, answer: &Message) -> Self {
        let said = answer.json();
        let text = |key: &str| said[key].as_str().expect("text").to_owned();
        let cookie = answer.head.one("set-cookie").expect("a cookie");
        let (_, rest) = cookie.split_once('=').expect("a pair");
        let token = rest.split(';').next().expect("a value").to_owned();
        lab.guard(Canary::of(token.clone()));
        Self { id: text("login"), token, csrf: text("csrf") }
    }

    /// The field of its cookie, over cleartext HTTP.
    pub fn cookie(&self) -> String {
        format!("Cookie: keyward={}\r\n", self.token)
    }

    /// The fields of a request that changes something.
    pub fn fields(&self) -> String {
        format!("{}Keyward-CSRF: {}\r\n", self.cookie(), self.csrf)
    }
}

/// The token of a new link, made by the operator.
pub async fn link_in(lab: &mut Lab, org: &str, ask: Value) -> String {
    let fields = format!("Keyward-Org: {org}\r\n");
    let line = ("POST", "/login-links");
    let made = lab.gateway.api_with(&fields, line, &ask.to_string()).await.is(201).json();
    let (_, link) =
        made["url"].as_str().expect("a URL").split_once("/login?link=").expect("a link");
    lab.guard(Canary::of(link.to_owned()));
    link.to_owned()
}

/// Signs in with a link and more fields.
pub async fn sign_in(lab: &Lab, link: &str, fields: &str) -> Message {
    sign_in_with(lab, &json!({"link": link}), fields).await
}

/// Signs in with this body.
pub async fn sign_in_with(lab: &Lab, body: &Value, fields: &str) -> Message {
    unseen_at(lab, "POST /api/v1/session", fields, &body.to_string()).await
}

/// A request over TCP whose answer may show a secret once.
pub async fn unseen_at(lab: &Lab, line: &str, fields: &str, body: &str) -> Message {
    let own = lab.gateway.admin;
    let mut wire = Wire::to(own).await;
    let host = match fields.contains("Host: ") {
        true => String::new(),
        false => format!("Host: {own}\r\n"),
    };
    wire.send(format!(
        "{line} HTTP/1.1\r\n{host}Content-Type: application/json\r\n\
         Content-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    ))
    .await;
    wire.answer(line.split(' ').next().expect("a method")).await
}
