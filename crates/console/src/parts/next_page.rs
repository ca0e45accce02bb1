//! The link to the next page of a list. It keeps the search and the filters.

use maud::{Markup, html};

use crate::visit::segment;

/// The foot of a list at `path`; nothing after its last page. `kept`: the query, without the place in the list.
pub(crate) fn next_page(path: &str, kept: &[(&str, Option<&str>)], next: Option<&str>) -> Markup {
    let kept = kept.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    let given = kept.filter(|(_, value)| !value.is_empty()).chain(next.map(|it| ("after", it)));
    let pairs: Vec<_> = given.map(|(name, value)| format!("{name}={}", segment(value))).collect();
    html! {
        @if next.is_some() { div.foot { a href={ (path) "?" (pairs.join("&")) } { "Next page" } } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_link() {
        assert_eq!(next_page("/agents", &[("q", Some("ci"))], None).into_string(), "");
    }

    #[test]
    fn the_link_to_the_next_page_keeps_the_search_parameters() {
        let kept = [("role", None), ("q", Some("a b&c")), ("state", Some(""))];
        let link = next_page("/agents", &kept, Some("ci/2")).into_string();
        assert!(link.contains("href=\"/agents?q=a%20b%26c&amp;after=ci%2F2\""), "{link}");
    }
}
