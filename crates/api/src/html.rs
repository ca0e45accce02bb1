//! [`HtmlPage`]: a simple HTML page of headings, text, facts, commands and buttons. Everything is escaped; there are no
//! scripts, and the only style sheet is allowed by its hash.

use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, StatusCode, header};
use keyward_base::connect::Branding;
use keyward_base::visible::visible;
use sha2::{Digest, Sha256};

/// The style sheet; colours follow the reader's light or dark theme.
const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1c2024;--soft:#5f6670;--page:#fff;--card:#f4f6f8;--line:#dfe3e8;--link:#0b5cad;\
--good:#157f3c;--bad:#a15c00}\
@media(prefers-color-scheme:dark){:root{--text:#e6e8eb;--soft:#9aa3ad;--page:#14171a;--card:#1d2126;--line:#31373f;\
--link:#7ab8ff;--good:#5fd38a;--bad:#f0b45a}}\
*{box-sizing:border-box}\
body{font:16px/1.55 system-ui,sans-serif;max-width:42rem;margin:8vh auto 4rem;padding:0 1.25rem;color:var(--text);\
background:var(--page)}\
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .75rem}h2{font-size:1.15rem;margin:2.25rem 0 .5rem}h2:target{color:var(--link)}\
p{margin:.6rem 0}a{color:var(--link)}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.25rem;margin:1rem 0}\
dt{color:var(--soft)}dd{margin:0;min-width:0;overflow-wrap:anywhere}\
code,pre{font:.875rem/1.5 ui-monospace,Menlo,Consolas,monospace}\
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;margin:.6rem 0;\
overflow-x:auto}\
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;padding:0 .9rem}\
summary{cursor:pointer;padding:.55rem 0;font-weight:500}details[open]{padding-bottom:.4rem}\
.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}\
.links{display:flex;flex-wrap:wrap;gap:.5rem;padding:0;margin:.9rem 0;list-style:none}.list{padding:0;margin:0;list-style:none}\
.links a,button{display:inline-block;font:inherit;padding:.45rem .9rem;border:1px solid var(--line);border-radius:6px;\
background:var(--card);color:var(--text);text-decoration:none;cursor:pointer}\
.links a:hover,button:hover{border-color:var(--soft)}button{margin:.5rem .5rem 0 0}\
.main{background:var(--accent);border-color:var(--accent);color:var(--on-accent)}\
.brand{color:var(--soft);margin:0 0 1.5rem;font-weight:600}.wrong{color:var(--bad);font-weight:600}\
label{display:block;font-weight:500;margin:1rem 0 .25rem}.help{color:var(--soft);font-size:.875rem;margin:.25rem 0}\
input,textarea,select{font:inherit;width:100%;padding:.45rem .6rem;border:1px solid var(--soft);border-radius:6px;\
background:var(--page);color:var(--text)}[aria-invalid]{border-color:var(--bad)}textarea{min-height:8rem;font:.875rem/1.5 ui-monospace,monospace}\
@media(max-width:30rem){body{margin-top:1.5rem}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.6rem}}";

/// A builder of a page.
pub(super) struct HtmlPage {
    title: String,
    body: String,
    facts: String,
    onward: String,
    brand: Option<Branding>,
}

/// One input of a form. A secret has no value: what a person sent is never sent back.
pub(super) struct FormField {
    /// The name in the form's body.
    pub(super) name: String,
    pub(super) label: String,
    pub(super) help: Option<String>,
    pub(super) input: FormInput,
    pub(super) optional: bool,
    /// Whether the page's alert is about its value: then the focus is here.
    pub(super) wrong: bool,
}

/// How a value is entered.
pub(super) enum FormInput {
    /// One line that is not shown.
    Secret,
    /// Several lines, such as a key file. What it has at first is no secret.
    Lines(String),
    /// A value of ours, which the form brings back.
    Hidden(String),
    /// One line.
    Text {
        /// What it has at first.
        value: String,
        example: Option<String>,
    },
    /// One of these.
    Choice {
        /// All of them.
        choices: Vec<String>,
        /// The one that is chosen at first.
        chosen: String,
    },
}

impl HtmlPage {
    /// A page with this heading.
    pub(super) fn new(title: &str) -> Self {
        Self {
            title: escaped(title),
            body: String::new(),
            facts: String::new(),
            onward: String::new(),
            brand: None,
        }
    }

    /// A page of the platform, with its name and colour.
    pub(super) fn branded(title: &str, brand: &Branding) -> Self {
        Self { brand: Some(brand.clone()), ..Self::new(title) }
    }

    /// Adds a paragraph. What is between backticks is shown as code.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.flush();
        self.body += &format!("<p>{}</p>", with_code(text));
        self
    }

    pub(super) fn fact(mut self, name: &str, value: &str) -> Self {
        self.facts += &format!("<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value));
        self
    }

    /// Adds a name and its values, one a line. What is between backticks is shown as code.
    pub(super) fn fact_list(mut self, name: &str, values: &[String]) -> Self {
        let item = |value: &String| format!("<li>{}</li>", with_code(value));
        let (name, items) = (escaped(name), values.iter().map(item).collect::<String>());
        self.facts += &format!(r#"<dt>{name}</dt><dd><ul class="list">{items}</ul></dd>"#);
        self
    }

    /// Adds a name and its value, which is shown as good or as something to look at.
    pub(super) fn state(mut self, name: &str, is_good: bool, value: &str) -> Self {
        let class = if is_good { "good" } else { "bad" };
        let (name, value) = (escaped(name), escaped(value));
        self.facts += &format!(r#"<dt>{name}</dt><dd class="{class}">{value}</dd>"#);
        self
    }

    /// Adds a name and its value in fixed-width letters.
    pub(super) fn code_fact(mut self, name: &str, value: &str) -> Self {
        let (name, value) = (escaped(name), escaped(value));
        self.facts += &format!("<dt>{name}</dt><dd><code>{value}</code></dd>");
        self
    }

    pub(super) fn heading(mut self, text: &str) -> Self {
        self.flush();
        self.body += &format!("<h2>{}</h2>", escaped(text));
        self
    }

    /// Adds a heading that is the target of links with this fragment.
    pub(super) fn anchor(mut self, fragment: &str) -> Self {
        self.flush();
        let fragment = escaped(fragment);
        self.body += &format!(r#"<h2 id="{fragment}"><code>{fragment}</code></h2>"#);
        self
    }

    /// Adds commands, one a line.
    pub(super) fn code(mut self, lines: &[&str]) -> Self {
        self.flush();
        let lines: Vec<_> = lines.iter().map(|line| escaped(line)).collect();
        self.body += &format!(r#"<pre tabindex="0"><code>{}</code></pre>"#, lines.join("\n"));
        self
    }

    /// Adds links to paths of this server, each with its label.
    pub(super) fn links(mut self, links: &[(&str, &str)]) -> Self {
        self.flush();
        let link = |(label, path): &(&str, &str)| {
            format!(r#"<li><a href="{}">{}</a></li>"#, escaped_value(path), escaped(label))
        };
        let links: String = links.iter().map(link).collect();
        self.body += &format!(r#"<ul class="links">{links}</ul>"#);
        self
    }

    /// Adds content that a click opens.
    pub(super) fn details(mut self, summary: &str, content: impl FnOnce(Self) -> Self) -> Self {
        self.flush();
        let mut inner = content(Self::new(""));
        inner.flush();
        let summary = escaped(summary);
        self.body += &format!("<details><summary>{summary}</summary>{}</details>", inner.body);
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

    /// Adds a paragraph about what is wrong. Screen readers say it at once.
    pub(super) fn alert(mut self, text: &str) -> Self {
        self.flush();
        self.body +=
            &format!(r#"<p class="wrong" role="alert" id="alert">{}</p>"#, with_code(text));
        self
    }

    /// Adds a link to another site, in a new tab.
    pub(super) fn external_link(mut self, label: &str, url: &str) -> Self {
        self.flush();
        let (label, url) = (escaped(label), escaped_value(url));
        self.body += &format!(
            r#"<p><a href="{url}" target="_blank" rel="noopener noreferrer">{label}</a></p>"#
        );
        self
    }

    /// Adds a form that POSTs its fields to `query` of this page.
    pub(super) fn form(mut self, query: &str, fields: &[FormField], button: &str) -> Self {
        self.flush();
        let fields: String = fields.iter().map(FormField::html).collect();
        let (query, button) = (escaped(query), escaped(button));
        self.body += &format!(
            r#"<form method="post" action="{query}" autocomplete="off">{fields}<button class="main">{button}</button></form>"#
        );
        self
    }

    /// Forwards to `url` immediately, and by a link. A redirect is not used, because `form-action` would apply
    /// to all further redirects too, and providers use several hosts.
    pub(super) fn forward_to(mut self, url: &str) -> Self {
        self.flush();
        let url = escaped_value(url);
        self.onward = format!(r#"<meta http-equiv="refresh" content="0;url={url}">"#);
        self.body += &format!(r#"<p><a href="{url}">Go on</a></p>"#);
        self
    }

    /// Loads this page again after so many seconds.
    pub(super) fn reload_after(mut self, seconds: u32) -> Self {
        self.onward = format!(r#"<meta http-equiv="refresh" content="{seconds}">"#);
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
        let style = self.style();
        let Self { title, body, onward, brand, .. } = self;
        let name = brand.as_ref().and_then(|brand| brand.name.as_deref()).unwrap_or("Keyward");
        let name = escaped(name);
        let tab = if title == name { title.clone() } else { format!("{title} · {name}") };
        let head = brand.map_or_else(String::new, |_| format!(r#"<p class="brand">{name}</p>"#));
        let text = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">{onward}<title>{tab}</title>\
             <style>{style}</style><main>{head}<h1>{title}</h1>{body}</main></html>"
        );
        let mut answer = Response::new(Body::from(text));
        *answer.status_mut() = status;
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        answer.headers_mut().insert(header::CONTENT_TYPE, html);
        // Other sites get no referrer. Without any referrer, a browser would send `null` as the origin of our
        // own form (Fetch §3.1), as for a foreign one.
        let referrer = HeaderValue::from_static("same-origin");
        answer.headers_mut().insert(header::REFERRER_POLICY, referrer);
        if let Ok(policy) = HeaderValue::from_str(&policy(&style)) {
            answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        answer
    }

    /// The style sheet, with the platform's colour.
    fn style(&self) -> String {
        let colour = self.brand.as_ref().and_then(|brand| brand.colour.as_ref());
        let (accent, text) = match colour {
            Some(colour) if colour.is_light() => (colour.as_str(), "#1c2024"),
            Some(colour) => (colour.as_str(), "#fff"),
            None => ("#0b5cad", "#fff"),
        };
        format!("{STYLE}:root{{--accent:{accent};--on-accent:{text}}}")
    }
}

impl FormField {
    fn html(&self) -> String {
        let (name, label) = (escaped(&self.name), escaped(&self.label));
        let required = if self.optional { "" } else { " required" };
        let optional = if self.optional { " (optional)" } else { "" };
        let about = match (self.wrong, &self.help) {
            (true, Some(_)) => format!(r#" aria-describedby="alert {name}-help""#),
            (true, None) => r#" aria-describedby="alert""#.to_owned(),
            (false, Some(_)) => format!(r#" aria-describedby="{name}-help""#),
            (false, None) => String::new(),
        };
        let wrong = if self.wrong { r#" aria-invalid="true" autofocus"# } else { "" };
        let given =
            format!(r#"id="{name}" name="{name}"{required}{about}{wrong} spellcheck="false""#);
        let input = match &self.input {
            FormInput::Secret => format!(r#"<input type="password" autocomplete="off" {given}>"#),
            FormInput::Lines(value) => {
                let value = escaped_value(value);
                format!(r#"<textarea autocomplete="off" {given}>{value}</textarea>"#)
            }
            FormInput::Hidden(value) => {
                let value = escaped_value(value);
                return format!(r#"<input type="hidden" name="{name}" value="{value}">"#);
            }
            FormInput::Text { value, example } => {
                let example = example.as_deref().unwrap_or_default();
                let (value, example) = (escaped_value(value), escaped(example));
                format!(r#"<input {given} value="{value}" placeholder="{example}">"#)
            }
            FormInput::Choice { choices, chosen } => {
                let option = |choice: &String| {
                    let selected = if choice == chosen { " selected" } else { "" };
                    let (value, shown) = (escaped_value(choice), escaped(choice));
                    format!(r#"<option value="{value}"{selected}>{shown}</option>"#)
                };
                let options: String = choices.iter().map(option).collect();
                format!("<select {given}>{options}</select>")
            }
        };
        let help = self.help.as_deref().map(escaped);
        let help = help.map(|help| format!(r#"<p class="help" id="{name}-help">{help}</p>"#));
        let help = help.unwrap_or_default();
        format!(r#"<label for="{name}">{label}{optional}</label>{input}{help}"#)
    }
}

fn policy(style: &str) -> String {
    let style = BASE64_STANDARD.encode(Sha256::digest(style));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

/// With a capital letter and a full stop.
pub fn sentence(text: &str) -> String {
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{stop}", capital(text))
}

/// With a capital letter, unless it begins with a host.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next();
    let word = text.split(' ').next().unwrap_or_default();
    match first {
        Some(first) if !word.trim_end_matches('.').contains('.') => {
            first.to_uppercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Escaped text in which what is between backticks is code.
fn with_code(text: &str) -> String {
    let parts = escaped(text);
    let parts: Vec<_> = parts.split('`').collect();
    // An odd backtick is one of the text.
    if parts.len().is_multiple_of(2) {
        return parts.join("`");
    }
    let part = |(at, part): (usize, &&str)| match at % 2 {
        0 => (*part).to_owned(),
        _ => format!("<code>{part}</code>"),
    };
    parts.iter().enumerate().map(part).collect()
}

/// A text that people read, with invisible characters by their numbers: a name could look like another.
fn escaped(text: &str) -> String {
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    escaped_value(&visible(&shown))
}

/// A value that a form sends, or an address.
fn escaped_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && !matches!(c, '\n' | '\r' | '\t') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_never_becomes_markup() {
        let page =
            HtmlPage::new("<b>").text("\"><script>alert('x')</script>").fact("a&b", "\u{1b}[31m");
        let button = page.button("</button>", "?x=\"y");
        let text = format!("{}{}", button.title, button.body);
        let button =
            button.heading("<b>").code(&["<b>"]).state("<b>", true, "<b>").code_fact("'", "'");
        let button = button.links(&[("<b>", "\"><b>")]).details("<b>", |page| page.text("<b>"));
        let button = button.anchor("\"><b>").alert("<b>").external_link("<b>", "\"><b>");
        let field = |input| FormField {
            name: "\"><b>".to_owned(),
            label: "<b>".to_owned(),
            help: Some("<b>".to_owned()),
            input,
            optional: true,
            wrong: true,
        };
        let bad = || "\"><b>".to_owned();
        let fields = [
            field(FormInput::Secret),
            field(FormInput::Lines(bad())),
            field(FormInput::Hidden(bad())),
            field(FormInput::Text { value: bad(), example: Some(bad()) }),
            field(FormInput::Choice { choices: vec![bad()], chosen: bad() }),
        ];
        let button = button.form("\"><b>", &fields, "<b>");
        let text = format!("{text}{}{}", button.body, button.facts);
        for bad in ["<b>", "<script", "'", "</button></button>", "\u{1b}", "=\"y"] {
            assert!(!text.contains(bad), "{bad} in {text}");
        }
    }

    #[test]
    fn text_between_backticks_is_code_and_an_unpaired_backtick_is_text() {
        let body = |text: &str| HtmlPage::new("x").text(text).body;
        assert_eq!(body("run `a <b>` now"), "<p>run <code>a &lt;b&gt;</code> now</p>");
        assert_eq!(body("one ` alone"), "<p>one ` alone</p>");
    }

    #[test]
    fn a_sentence_begins_with_a_capital_letter_unless_it_begins_with_a_host() {
        for (text, expected) in [
            ("api.acme.test has no address", "api.acme.test has no address."),
            ("the key ends.", "The key ends."),
            ("declined.", "Declined."),
            ("über", "Über."),
            ("", "."),
        ] {
            assert_eq!(sentence(text), expected);
        }
    }

    #[test]
    fn an_address_stays_within_its_attribute() {
        let page = HtmlPage::new("x").forward_to("https://a.test/?a=1&b=\"><script>");
        assert!(
            page.onward.ends_with(r#"0;url=https://a.test/?a=1&amp;b=&quot;&gt;&lt;script&gt;">"#)
        );
    }

    #[test]
    fn texts_show_what_is_invisible_and_values_of_forms_keep_it() {
        let name = "pay\u{202e}lap";
        let page = HtmlPage::new(name).text(name).fact(name, name).links(&[(name, name)]);
        let field = FormField {
            name: "x".to_owned(),
            label: name.to_owned(),
            help: None,
            input: FormInput::Text { value: name.to_owned(), example: None },
            optional: false,
            wrong: false,
        };
        let page = page.form("", &[field], name);
        assert_eq!(page.title, r"pay\u{202e}lap");
        assert!(page.body.contains(r"<p>pay\u{202e}lap</p>"), "{}", page.body);
        assert_eq!(
            page.body.matches('\u{202e}').count(),
            2,
            "an address and a value: {}",
            page.body
        );
        assert!(page.body.contains("value=\"pay\u{202e}lap\""), "{}", page.body);
    }
}
