//! Checks what a method says about registering an app: the page, the steps there, and where the steps are documented.

use super::document::{Problems, item_of, key_of};
use super::own_hosts::{is_day, split_https};
use super::schema::{AppSourceText, AuthText};

/// The placeholder of the app's redirect URI in a step.
const REDIRECT_URI: &str = " {redirect_uri}";

/// Checks `app_url`, `app_steps` and `app_source`.
pub(super) fn check(text: &AuthText, path: &str, problems: &mut Problems<'_>) {
    if text.app_url.as_deref().is_some_and(|url| split_https(url).is_none()) {
        problems.add(&key_of(path, "app_url"), "this is not an https URL", "write `https://…`");
    }
    steps(text, path, problems);
    let Some(source) = &text.app_source else { return };
    let at = key_of(path, "app_source");
    check_source(source, &at, problems);
    if text.app_steps.is_empty() {
        let remedy = "write what to do there under `app_steps`";
        problems.add(&at, "`app_source` needs `app_steps`", remedy);
    }
}

/// What people do where they register an app.
fn steps(text: &AuthText, path: &str, problems: &mut Problems<'_>) {
    let at = key_of(path, "app_steps");
    let lengths = 1..=300;
    for (index, step) in text.app_steps.iter().enumerate() {
        if !lengths.contains(&step.len()) || step.chars().any(char::is_control) {
            let remedy = "write one line of at most 300 characters";
            problems.add(&item_of(&at, index), "this is no step", remedy);
        }
    }
    let named = text.app_steps.iter().map(|step| step.matches(REDIRECT_URI).count()).sum::<usize>();
    let ending = text.app_steps.iter().filter(|step| step.ends_with(REDIRECT_URI)).count();
    let wanted = usize::from(!text.app_steps.is_empty() && text.authorize.is_some());
    if (named, ending) != (wanted, wanted) {
        let remedy = "put it at the end of the step that registers the redirect URI, and in no \
                      other";
        problems.add(&at, format_args!("{wanted} step must have `{REDIRECT_URI}`"), remedy);
    }
}

fn check_source(source: &AppSourceText, at: &str, problems: &mut Problems<'_>) {
    if split_https(&source.url).is_none() {
        problems.add(&key_of(at, "url"), "this is not an https URL", "write `https://…`");
    }
    if !is_day(&source.checked) {
        problems.add(&key_of(at, "checked"), "this is not a day", "write `2026-08-21`");
    }
}

#[cfg(test)]
mod tests {
    use crate::provider::{Catalogue, check};

    fn problems(keys: &str) -> Vec<String> {
        let text = format!(
            "id: acme\nname: Acme\nhosts: [api.acme.test]\nauth:\n  - id: o\n    kind: oauth2\n    \
             authorize: https://acme.test/a\n    token: https://acme.test/t\n    {keys}\n"
        );
        let found = check::file("p.yaml", &text, &Catalogue::built_in());
        found.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_app_source_needs_an_https_url_a_date_and_steps() {
        const STEPS: &str = "app_steps: ['enter {redirect_uri}']\n    app_source: ";
        for (keys, expected) in [
            ("{ url: 'http://acme.test/docs', checked: 2026-11-24 }", "https URL"),
            ("{ url: 'https://acme.test/docs', checked: yesterday }", "not a day"),
            ("{ url: 'https://acme.test/docs' }", "checked"),
            ("https://acme.test/docs", "app_source"),
        ] {
            let found = problems(&format!("{STEPS}{keys}"));
            assert!(matches!(found.as_slice(), [one] if one.contains(expected)), "{found:?}");
        }
        let page = "{ url: 'https://acme.test/docs', checked: 2026-11-24 }";
        let found = problems(&format!("app_source: {page}"));
        let needed = "`app_source` needs";
        assert!(matches!(found.as_slice(), [one] if one.contains(needed)), "{found:?}");
        assert_eq!(problems(&format!("{STEPS}{page}")), [""; 0]);
    }
}
