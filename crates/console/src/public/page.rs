//! [`PublicPage`]: a simple page for everybody. It runs no script and loads nothing; its only style sheet is a part of it,
//! which is allowed by its hash.

use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::parts::{facts, with_code};
use crate::visible::visible;
use crate::words::sentence;
use keyward_base::connect::Branding;
use keyward_rules::provider::scope_words::ScopeWords;

const STYLE: &str = include_str!("../assets/public.css");

/// A page with its heading.
pub(super) struct PublicPage {
    title: String,
    content: Markup,
    /// Of the platform whose page it is.
    brand: Option<Branding>,
    /// When the browser loads which page.
    refresh: Option<String>,
}

impl PublicPage {
    pub(super) fn new(title: impl Into<String>, content: Markup) -> Self {
        Self { title: title.into(), content, brand: None, refresh: None }
    }

    /// With the name and the colour of the platform.
    pub(super) fn branded(self, brand: Branding) -> Self {
        Self { brand: Some(brand), ..self }
    }

    /// Forwards to `url` immediately, and by a link. A redirect is not used, because `form-action` would apply
    /// to all further redirects too, and providers use several hosts.
    pub(super) fn forward_to(self, url: &str) -> Self {
        let content = html! { (self.content) p { a href=(url) { "Go on" } } };
        Self { content, refresh: Some(format!("0;url={url}")), ..self }
    }

    /// Loads itself again after so many seconds.
    pub(super) fn reload_after(self, seconds: u32) -> Self {
        Self { refresh: Some(seconds.to_string()), ..self }
    }

    /// The response; its forms may only be sent to us.
    pub(super) fn answer(self, status: StatusCode) -> Response {
        let style = self.style();
        let policy = policy(&style);
        let mut answer = (status, Html(visible(self.document(&style)))).into_response();
        let fields = answer.headers_mut();
        // Other sites get no referrer. Without any referrer, a browser would send `null` as the origin of our
        // own form (Fetch §3.1), as for a foreign one.
        fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        let policy = HeaderValue::from_str(&policy).expect("the text is ASCII");
        fields.insert(header::CONTENT_SECURITY_POLICY, policy);
        answer
    }

    fn document(&self, style: &str) -> Markup {
        let brand = self.brand.as_ref();
        let name = brand.and_then(|brand| brand.name.as_deref()).unwrap_or("Keyward");
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width";
                    @if let Some(refresh) = &self.refresh { meta http-equiv="refresh" content=(refresh); }
                    title { (self.title) @if self.title != name { " · " (name) } }
                    style { (PreEscaped(style)) }
                }
                body {
                    main {
                        @if brand.is_some() { p.brand { (name) } }
                        h1 { (self.title) }
                        (self.content)
                    }
                }
            }
        }
    }

    /// The style sheet, with the platform's colour.
    fn style(&self) -> String {
        let colour = self.brand.as_ref().and_then(|brand| brand.colour.as_ref());
        let (accent, text) = match colour {
            Some(colour) if colour.is_light() => (colour.as_str(), "#1c2024"),
            Some(colour) => (colour.as_str(), "#fff"),
            None => ("#0b5cad", "#fff"),
        };
        format!("{STYLE}:root {{ --accent: {accent}; --on-accent: {text} }}")
    }
}

fn policy(style: &str) -> String {
    let style = BASE64_STANDARD.encode(Sha256::digest(style));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

/// Links, each with its label.
pub(super) fn links(links: &[(&str, &str)]) -> Markup {
    html! { ul.links { @for (label, to) in links { li { a href=(to) { (label) } } } } }
}

/// A paragraph about what is wrong. Screen readers say it at once.
pub(super) fn alert(text: &str) -> Markup {
    html! { p.wrong role="alert" id="alert" { (with_code(&sentence(text))) } }
}

/// A button that POSTs to `query` of its page.
pub(super) fn button(label: &str, query: &str) -> Markup {
    html! { form method="post" action=(query) { button { (label) } } }
}

/// What a consent is for. Scopes with words are a line each.
pub(super) fn asked_scopes(scopes: &[String], words: &ScopeWords) -> Markup {
    html! {
        @if scopes.is_empty() { "the default scopes of the provider" }
        @else if words.is_empty() { (scopes.join(", ")) }
        @else { ul.list { @for scope in scopes { li { (with_words(scope, words.get(scope))) } } } }
    }
}

fn with_words(scope: &str, words: Option<&String>) -> Markup {
    html! {
        @if let Some(words) = words { (words) " (" code { (scope) } ")" } @else { code { (scope) } }
    }
}

/// Asks whether the account of a consent is used instead of the one before. `users`: those who act as it. The decision is
/// added to `query` of the page.
pub(super) fn other_account(
    before: &str,
    account: Option<&str>,
    users: &str,
    query: &str,
) -> PublicPage {
    let said = match account {
        Some(_) => "You consented with another account than this connection had.",
        None => {
            "The provider does not say which account you consented with. It may be another than this \
             connection had."
        }
    };
    let content = html! {
        p { (said) }
        (facts(&[
            ("Connected so far", Some(html! { (before) })),
            ("Now", Some(html! { (account.unwrap_or("unknown")) })),
        ]))
        p { (users) " that use this connection would act as the new one." }
        (button("Use the new account", &format!("{query}accept=yes")))
        (button("Keep the old one", &format!("{query}accept=no")))
    };
    PublicPage::new("Another account", content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_text_and_its_invisible_characters_are_shown() {
        let name = "\"><b>pay\u{202e}lap";
        let content = html! { (links(&[(name, name)])) (alert(name)) (button(name, name)) };
        let text = visible(PublicPage::new(name, content).forward_to(name).document(""));
        assert!(!text.contains("<b>"), "{text}");
        let (shown, sent) =
            (r"&quot;&gt;&lt;b&gt;pay\u{202e}lap", "&quot;&gt;&lt;b&gt;pay\u{202e}lap");
        for part in [
            format!("<h1>{shown}</h1>"),
            format!("<a href=\"{sent}\">{shown}</a>"),
            format!(" content=\"0;url={sent}\""),
            format!(" action=\"{sent}\""),
        ] {
            assert!(text.contains(&part), "{part} in {text}");
        }
    }

    #[test]
    fn the_style_sheet_is_sent_as_its_hash_was_made() {
        let page = PublicPage::new("x", html! {});
        let style = page.style();
        let text = visible(page.document(&style));
        assert!(text.contains(&format!("<style>{style}</style>")), "{text}");
    }
}
