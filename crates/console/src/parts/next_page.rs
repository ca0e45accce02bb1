//! Links to the next and the first page of a list. They keep the search and the filters.

use maud::{Markup, html};

use super::empty;
use crate::visit::segment;

/// The foot of a list at `path`; nothing after its last page. `kept`: the query, without the place in the list.
pub(crate) fn next_page(path: &str, kept: &[(&str, Option<&str>)], next: Option<&str>) -> Markup {
    html! {
        @if next.is_some() { div.foot { a href=(page(path, kept, next)) { "Next page" } } }
    }
}

/// The content of an empty page that begins after an entry; `None` for the first page. The list may have become shorter.
pub(crate) fn past_end(
    path: &str,
    kept: &[(&str, Option<&str>)],
    after: Option<&str>,
) -> Option<Markup> {
    after.filter(|after| !after.is_empty())?;
    let first = html! { a.button href=(page(path, kept, None)) { "First page" } };
    Some(empty("This page is past the end of the list", "Nothing comes after it.", Some(first)))
}

fn page(path: &str, kept: &[(&str, Option<&str>)], after: Option<&str>) -> String {
    let kept = kept.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    let given = kept.filter(|(_, value)| !value.is_empty()).chain(after.map(|it| ("after", it)));
    let pairs: Vec<_> = given.map(|(name, value)| format!("{name}={}", segment(value))).collect();
    match pairs.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", pairs.join("&")),
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

    #[test]
    fn a_page_past_the_end_links_the_first_page_with_the_search_parameters() {
        for first in [None, Some("")] {
            assert!(past_end("/agents", &[], first).is_none());
        }
        for (q, href) in [(None, "/agents"), (Some("a b"), "/agents?q=a%20b")] {
            let page = past_end("/agents", &[("q", q)], Some("zz")).unwrap().into_string();
            assert!(page.contains(&format!("href=\"{href}\">First page")), "{page}");
        }
    }
}
