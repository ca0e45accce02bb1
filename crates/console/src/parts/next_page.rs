//! Pages of lists: their query, and their links to the next and the first page, which keep the search and the filters.

use maud::{Markup, html};
use serde::Deserialize;

use super::empty;
use crate::visit::with_query;
use keyward_api::wire::List;

/// The query of a page with a list: the search, and the entry before its first one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListQuery {
    pub(crate) q: Option<String>,
    pub(crate) after: Option<String>,
}

impl ListQuery {
    pub(crate) fn is_searched(&self) -> bool {
        self.q.as_deref().is_some_and(|q| !q.is_empty())
    }

    /// The address of the first page of the list at `path`.
    pub(crate) fn first(&self, path: &str) -> String {
        with_query(path, &[("q", self.q.as_deref())])
    }

    /// The address of this page of the list at `path`.
    pub(crate) fn of(&self, path: &str) -> String {
        with_query(&self.first(path), &[("after", self.after.as_deref())])
    }
}

/// A page of the list whose first page is at `first`. It begins after the entry `after`; `none`: the list has no entry.
pub(crate) fn list_page<T>(
    first: &str,
    after: Option<&str>,
    list: &List<T>,
    entries: &Markup,
    none: Markup,
) -> Markup {
    html! {
        @if list.items.is_empty() { (past_end(first, after).unwrap_or(none)) } @else { (entries) }
        @if list.next.is_some() {
            div.foot { a href=(with_query(first, &[("after", list.next.as_deref())])) { "Next page" } }
        }
    }
}

/// The content of an empty page that begins after an entry; `None` for the first page. The list may have become shorter.
fn past_end(first: &str, after: Option<&str>) -> Option<Markup> {
    after.filter(|after| !after.is_empty())?;
    let first = html! { a.button href=(first) { "First page" } };
    Some(empty("This page is past the end of the list", "Nothing comes after it.", Some(first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(first: &str, entry: Option<u8>, after: Option<&str>, next: Option<&str>) -> String {
        let list = List { items: entry.into_iter().collect(), next: next.map(str::to_owned) };
        list_page(first, after, &list, &html! { "entries" }, html! { "none" }).into_string()
    }

    #[test]
    fn the_last_page_has_no_link() {
        assert_eq!(shown("/agents?q=ci", Some(1), None, None), "entries");
    }

    #[test]
    fn the_link_to_the_next_page_keeps_the_search_parameters() {
        let kept = [("role", None), ("q", Some("a b&c")), ("state", Some(""))];
        let link = shown(&with_query("/agents", &kept), Some(1), None, Some("ci/2"));
        assert!(link.contains("href=\"/agents?q=a%20b%26c&amp;after=ci%2F2\""), "{link}");
    }

    #[test]
    fn a_page_past_the_end_links_the_first_page_with_the_search_parameters() {
        for after in [None, Some("")] {
            assert_eq!(shown("/agents", None, after, None), "none");
        }
        for (q, href) in [(None, "/agents"), (Some("a b"), "/agents?q=a%20b")] {
            let page = shown(&with_query("/agents", &[("q", q)]), None, Some("zz"), None);
            assert!(page.contains(&format!("href=\"{href}\">First page")), "{page}");
        }
    }
}
