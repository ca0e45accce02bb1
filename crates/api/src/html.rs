//! [`HtmlPage`]: a simple HTML page of a heading, text, facts and buttons. Everything is escaped; there are no
//! scripts, and the only style sheet is allowed by its hash.

use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

/// A plain style sheet with a dark variant.
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:10vh auto;padding:0 \
1rem;color-scheme:light dark}h1{font-size:1.4rem}dt{opacity:.7}dd{margin:0 0 .6rem;overflow-wrap:anywhere}\
button{font:inherit;padding:.5rem 1rem;margin:.5rem .5rem 0 0}";

/// A builder of a page.
pub(super) struct HtmlPage {
    title: String,
    body: String,
    facts: String,
    onward: String,
}

impl HtmlPage {
    /// A page with this heading.
    pub(super) fn new(title: &str) -> Self {
        Self {
            title: escaped(title),
            body: String::new(),
            facts: String::new(),
            onward: String::new(),
        }
    }

    /// Adds a paragraph.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.flush();
        self.body += &format!("<p>{}</p>", escaped(text));
        self
    }

    /// Adds a name and its value.
    pub(super) fn fact(mut self, name: &str, value: &str) -> Self {
        self.facts += &format!("<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value));
        self
    }

    /// Adds a button that POSTs to this page, or to `query` of it.
    pub(super) fn button(mut self, label: &str, query: &str) -> Self {
        self.flush();
        let (label, query) = (escaped(label), escaped(query));
        self.body +=
            &format!(r#"<form method="post" action="{query}"><button>{label}</button></form>"#);
        self
    }

    /// Forwards to `url` immediately, and by a link. A redirect is not used, because `form-action` would apply
    /// to all further redirects too, and providers use several hosts.
    pub(super) fn onward(mut self, url: &str) -> Self {
        self.flush();
        let url = escaped(url);
        self.onward = format!(r#"<meta http-equiv="refresh" content="0;url={url}">"#);
        self.body += &format!(r#"<p><a href="{url}">Go on</a></p>"#);
        self
    }

    fn flush(&mut self) {
        if !self.facts.is_empty() {
            self.body += &format!("<dl>{}</dl>", std::mem::take(&mut self.facts));
        }
    }

    /// The response; its forms may only be sent to us.
    pub(super) fn answer(mut self, status: StatusCode) -> Response {
        self.flush();
        let Self { title, body, onward, .. } = self;
        let text = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">{onward}<title>{title} · Keyward</title>\
             <style>{STYLE}</style><h1>{title}</h1>{body}</html>"
        );
        let mut answer = Response::new(Body::from(text));
        *answer.status_mut() = status;
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        answer.headers_mut().insert(header::CONTENT_TYPE, html);
        // Other sites get no referrer. Without any referrer, a browser would send `null` as the origin of our
        // own form (Fetch §3.1), as for a foreign one.
        let referrer = HeaderValue::from_static("same-origin");
        answer.headers_mut().insert(header::REFERRER_POLICY, referrer);
        if let Ok(policy) = HeaderValue::from_str(&policy()) {
            answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        answer
    }
}

fn policy() -> String {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

/// Adds a capital letter and a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Removes characters that a terminal or a browser would interpret.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_others_becomes_markup() {
        let page =
            HtmlPage::new("<b>").text("\"><script>alert('x')</script>").fact("a&b", "\u{1b}[31m");
        let button = page.button("</button>", "?x=\"y");
        let text = format!("{}{}", button.title, button.body);
        for bad in ["<b>", "<script", "'", "</button></button>", "\u{1b}", "=\"y"] {
            assert!(!text.contains(bad), "{bad} in {text}");
        }
    }

    #[test]
    fn an_address_stays_within_its_attribute() {
        let page = HtmlPage::new("x").onward("https://a.test/?a=1&b=\"><script>");
        assert!(
            page.onward.ends_with(r#"0;url=https://a.test/?a=1&amp;b=&quot;&gt;&lt;script&gt;">"#)
        );
    }
}
