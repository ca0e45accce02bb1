//! Lists: `?q=&limit=&after=`, in the order of a stable key that is also the cursor.

use schemars::JsonSchema;
use serde::Deserialize;

use super::error::ApiError;
use super::wire::List;

/// Items of a page when `limit` is not given.
const PAGE_ITEMS: usize = 100;
/// Most items of a page.
const PAGE_ITEMS_MAX: usize = 1_000;

/// The query of a list.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Part of a name or id, any case.
    q: Option<String>,
    /// Items wanted.
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Text that is searched for, in any case.
pub(super) struct SearchText(String);

impl SearchText {
    pub(super) fn of(q: &str) -> Self {
        Self(q.to_lowercase())
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.0)
    }
}

impl Page {
    pub(super) fn of(q: Option<String>, limit: Option<usize>, after: Option<String>) -> Self {
        Self { q, limit, after }
    }

    /// Whether one of `texts` matches the search.
    pub(super) fn wants(&self, texts: &[&str]) -> bool {
        let Some(q) = self.q.as_deref().map(SearchText::of) else { return true };
        texts.iter().any(|text| q.is_in(text))
    }

    /// The page of `items`, whose keys are unique. The cursor is the last key, so that a page stays
    /// right when items come or go between two requests.
    ///
    /// # Errors
    /// When `limit` is zero or over the maximum.
    pub(super) fn cut<T>(
        &self,
        mut items: Vec<T>,
        key: impl Fn(&T) -> &str,
    ) -> Result<List<T>, ApiError> {
        let limit = limited(self.limit)?;
        if let Some(after) = &self.after {
            items.retain(|item| key(item) > after.as_str());
        }
        let more = items.len() > limit;
        if more {
            // Only the page is sorted, not all that was found.
            items.select_nth_unstable_by(limit, |a, b| key(a).cmp(key(b)));
            items.truncate(limit);
        }
        items.sort_by(|a, b| key(a).cmp(key(b)));
        let next = items.last().filter(|_| more).map(|item| key(item).to_owned());
        Ok(List { items, next })
    }
}

/// How many items a page may hold.
///
/// # Errors
/// When `limit` is zero or over the maximum.
pub(super) fn limited(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(PAGE_ITEMS) {
        limit if (1..=PAGE_ITEMS_MAX).contains(&limit) => Ok(limit),
        _ => Err(ApiError::field("limit", format!("must be from 1 to {PAGE_ITEMS_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: usize, after: Option<&str>) -> Page {
        Page { q: None, limit: Some(limit), after: after.map(str::to_owned) }
    }

    #[test]
    fn limits_out_of_range_are_refused() {
        for limit in [0, PAGE_ITEMS_MAX + 1] {
            assert!(page(limit, None).cut(vec!["a"], |s| s).is_err(), "{limit}");
        }
    }

    #[test]
    fn pages_visit_every_item_once() {
        let all = vec!["d", "b", "a", "c", "e"];
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let list = page(2, after.as_deref()).cut(all.clone(), |s| s).unwrap();
            seen.extend(list.items);
            match list.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_full_last_page_has_no_next() {
        assert_eq!(page(2, None).cut(vec!["a", "b"], |s| s).unwrap().next, None);
    }

    #[test]
    fn search_ignores_case_and_looks_into_every_text() {
        let page = Page { q: Some("HUB".to_owned()), ..Page::default() };
        assert!(page.wants(&["x", "GitHub"]));
        assert!(!page.wants(&["gitlab"]));
    }
}
