//! The name of a browser for lists of logins: `Firefox on Linux`, by its `User-Agent`, which it may choose freely.
//! Pure.

use http::{HeaderMap, header};

/// Characters that are kept of an unknown one.
const UNKNOWN_CHARS_MAX: usize = 40;

/// Words of browsers. The order counts, because each contains the words of those it is compatible with.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// Words of systems, likewise.
const SYSTEMS: &[(&str, &str)] = &[
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];

/// The name; `None` if the request does not say.
pub(super) fn named(fields: &HeaderMap) -> Option<String> {
    let text = fields.get(header::USER_AGENT)?.to_str().ok()?;
    let find = |table: &[(&str, &'static str)]| {
        table.iter().find(|(word, _)| text.contains(word)).map(|(_, name)| *name)
    };
    match (find(BROWSERS), find(SYSTEMS)) {
        (Some(browser), Some(system)) => Some(format!("{browser} on {system}")),
        (Some(browser), None) => Some(browser.to_owned()),
        (None, _) => {
            let word = text.split_ascii_whitespace().next().unwrap_or_default();
            let shown = word.chars().filter(|c| c.is_ascii_graphic()).take(UNKNOWN_CHARS_MAX);
            Some(shown.collect::<String>()).filter(|shown| !shown.is_empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_browser_is_named_and_an_unknown_user_agent_is_shortened() {
        let of = |text: &str| {
            let mut fields = HeaderMap::new();
            fields.insert(header::USER_AGENT, text.parse().unwrap());
            named(&fields).unwrap_or_default()
        };
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                      Chrome/140.0.0.0 Safari/537.36";
        for (text, name) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
            ),
            (chrome, "Chrome on Windows"),
            (&format!("{chrome} Edg/140.0"), "Edge on Windows"),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/18.0 Safari/605.1.15",
                "Safari on macOS",
            ),
            ("curl/8.14.1", "curl/8.14.1"),
            ("", ""),
            (" \t", ""),
            (&"x".repeat(10_000), &"x".repeat(UNKNOWN_CHARS_MAX)),
        ] {
            assert_eq!(of(text), name);
        }
    }
}
