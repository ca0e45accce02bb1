//! A browser for the admin listener: keeps cookies, and follows no redirect by itself.

use std::net::SocketAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::gateway::Gateway;
use super::wire::{Message, Wire};

/// One browser.
#[derive(Clone, Debug)]
pub struct Browser {
    at: SocketAddr,
    /// What it keeps, by name.
    pub cookies: Vec<(String, String)>,
    /// Where it says that its requests come from.
    pub site: &'static str,
    /// An old browser, or a page by plain HTTP: it says its origin instead.
    pub origin: Option<String>,
}

impl Browser {
    /// A fresh one, that will visit this gateway.
    pub fn new(gateway: &Gateway) -> Self {
        Self::at(gateway.admin)
    }

    /// The same, by the address of the admin listener.
    pub fn at(at: SocketAddr) -> Self {
        Self { at, cookies: vec![], site: "same-origin", origin: None }
    }

    /// Goes to a page: a path, or an address of the gateway.
    pub async fn get(&mut self, to: &str) -> Message {
        self.ask("GET", to).await
    }

    /// Presses a page's button.
    pub async fn post(&mut self, to: &str) -> Message {
        self.ask("POST", to).await
    }

    /// Another site has it POST a form: `SameSite=Lax` cookies stay at home.
    pub async fn posts_from_elsewhere(&self, to: &str, form: &str) -> Message {
        let (path, port, length) = (path(to), self.at.port(), form.len());
        let mut wire = Wire::to(self.at).await;
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nSec-Fetch-Site: cross-site\r\n\
             Origin: https://auth.acme.test\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        ))
        .await;
        wire.answer("POST").await
    }

    /// Sends a page's form.
    pub async fn submit(&mut self, to: &str, fields: &[(&str, &str)]) -> Message {
        let coded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs = fields.iter().map(|(name, value)| format!("{}={}", coded(name), coded(value)));
        self.send("POST", to, &pairs.collect::<Vec<_>>().join("&")).await
    }

    /// One request.
    pub async fn ask(&mut self, method: &str, to: &str) -> Message {
        self.send(method, to, "").await
    }

    async fn send(&mut self, method: &str, to: &str, form: &str) -> Message {
        let path = path(to);
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = match cookies.is_empty() {
            true => String::new(),
            false => format!("Cookie: {}\r\n", cookies.join("; ")),
        };
        let port = self.at.port();
        let whence = match &self.origin {
            None => format!("Sec-Fetch-Site: {}", self.site),
            Some(origin) => format!("Origin: {origin}"),
        };
        let length = match (method, form.len()) {
            ("POST", 0) => "Content-Length: 0\r\n".to_owned(),
            ("POST", length) => format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n"
            ),
            _ => String::new(),
        };
        let mut wire = Wire::to(self.at).await;
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{whence}\r\n\
             {cookies}{length}Connection: close\r\n\r\n{form}"
        ))
        .await;
        let answer = wire.answer(method).await;
        for cookie in answer.head.all("set-cookie") {
            let pair = cookie.split(';').next().expect("a pair");
            let (name, value) = pair.split_once('=').expect("name and value");
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        answer
    }

    /// Opens a start page and goes on: the address at the provider.
    pub async fn begin(&mut self, start: &str) -> String {
        self.get(start).await.is(200);
        let sent = self.post(start).await.is(200);
        onward(&sent)
    }
}

/// Where a page leads on to.
pub fn onward(page: &Message) -> String {
    let text = page.text();
    let (_, rest) = text.split_once("content=\"0;url=").expect("it leads on");
    rest.split('"').next().expect("an address").replace("&amp;", "&")
}

/// Path and query of an address.
fn path(to: &str) -> String {
    match to.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap_or(rest.len())..].to_owned(),
        None => to.to_owned(),
    }
}
