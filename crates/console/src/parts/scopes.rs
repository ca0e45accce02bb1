//! Words about apps: what their client id and secret are called, and scopes.

use maud::{Markup, html};

use crate::visit::capital;
use keyward_api::wire::{AuthView, ProviderView};
use keyward_rules::provider::scope_words::ScopeWords;

/// Scopes, each with what it allows, as far as the service's words are known. `missing` were not granted.
pub(crate) fn scope_list(scopes: &[&String], words: &ScopeWords, missing: &[String]) -> Markup {
    let is_missing = |scope: &String| missing.contains(scope);
    let chip = |scope: &String| {
        html! {
            @if is_missing(scope) { span.chip.bad { (scope) " – not granted" } }
            @else { span.chip { (scope) } }
        }
    };
    if !scopes.iter().any(|scope| words.contains_key(*scope)) {
        return html! { ul.chips { @for scope in scopes { li { (chip(scope)) } } } };
    }
    html! {
        ul.scopes { @for scope in scopes { li {
            (chip(scope)) @if let Some(words) = words.get(*scope) { " " (words) }
        } } }
    }
}

/// What the scopes of a service are called, below a field that takes some.
pub(crate) fn known_scopes(provider: &ProviderView) -> Markup {
    html! {
        @if !provider.scope_words.is_empty() {
            details #known-scopes {
                summary { "Scopes of " (provider.name) }
                (scope_list(&provider.scope_words.keys().collect::<Vec<_>>(), &provider.scope_words, &[]))
                p.small.muted { "Its documentation may have more." }
            }
        }
    }
}

/// Labels of the client's id and secret, in the words of the service.
pub(crate) fn client_labels(auth: Option<&AuthView>) -> [String; 2] {
    client_words(auth).map(capital)
}

/// The same words within a sentence.
pub(crate) fn client_words(auth: Option<&AuthView>) -> [&str; 2] {
    auth.map_or(["client id", "client secret"], AuthView::client_words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_show_their_descriptions_and_those_not_granted_are_marked() {
        let scopes = ["read", "pay", "admin"].map(str::to_owned);
        let all: Vec<_> = scopes.iter().collect();
        let plain = scope_list(&all, &ScopeWords::new(), &scopes[1..2]).into_string();
        assert!(plain.contains(r#"<span class="chip">read</span>"#), "{plain}");
        assert!(plain.contains("pay – not granted") && !plain.contains("scopes"), "{plain}");
        let words = ScopeWords::from([("read".to_owned(), "see <your> bills".to_owned())]);
        let worded = scope_list(&all, &words, &[]).into_string();
        assert!(worded.contains("</span> see &lt;your&gt; bills</li>"), "{worded}");
        assert!(worded.contains(r#"<span class="chip">admin</span></li>"#), "{worded}");
    }
}
