//! [`HostIndex`]: values by host pattern. A look-up hashes the host and each of its suffixes, so that its cost depends
//! on the number of labels and not on the number of patterns. [`CountedIndex`] has reference counts, in maps that
//! versions of a policy share.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use keyward_base::host::{Host, Target};
use keyward_base::pattern::HostPattern;
use keyward_base::shared_map::SharedMap;

/// Values by host pattern.
#[derive(Clone, Debug)]
pub(super) struct HostIndex<T> {
    exact: HashMap<Host, Vec<IndexEntry<T>>, RandomState>,
    below: HashMap<Arc<str>, Vec<IndexEntry<T>>, RandomState>,
}

/// A value with its pattern.
#[derive(Clone, Debug)]
pub(super) struct IndexEntry<T> {
    pub(super) pattern: HostPattern,
    pub(super) value: T,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self { exact: HashMap::default(), below: HashMap::default() }
    }
}

impl<T> HostIndex<T> {
    pub(super) fn insert(&mut self, pattern: HostPattern, value: T) {
        let entries = match (pattern.literal(), pattern.suffix()) {
            (Some(host), _) => self.exact.entry(host.clone()).or_default(),
            (None, suffix) => self.below.entry(suffix.unwrap_or_default().into()).or_default(),
        };
        entries.push(IndexEntry { pattern, value });
    }

    /// Releases unused capacity.
    pub(super) fn shrink_to_fit(&mut self) {
        let all = self.exact.values_mut().chain(self.below.values_mut());
        all.for_each(Vec::shrink_to_fit);
        self.exact.shrink_to_fit();
        self.below.shrink_to_fit();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    /// The entries that match the target, port included: those of the exact host first, then by decreasing
    /// length of the suffix; within one host in the order of insertion.
    pub(super) fn matching<'a>(
        &'a self,
        target: &'a Target,
    ) -> impl Iterator<Item = &'a IndexEntry<T>> + 'a {
        self.of_host(target.host()).filter(|entry| entry.pattern.matches_port(target))
    }

    /// The entries that match the host on some port, in the same order.
    pub(super) fn of_host<'a>(
        &'a self,
        host: &'a Host,
    ) -> impl Iterator<Item = &'a IndexEntry<T>> + 'a {
        let suffixes = host.name().into_iter().flat_map(suffixes);
        let exact = self.exact.get(host).into_iter();
        let below = suffixes.filter_map(|suffix| self.below.get(suffix));
        exact.chain(below).flatten().inspect(|_| keyward_base::shared_map::increment())
    }

    /// The entries whose pattern contains this one, on some port.
    pub(super) fn containing<'a>(
        &'a self,
        pattern: &'a HostPattern,
    ) -> impl Iterator<Item = &'a IndexEntry<T>> + 'a {
        let of_host = pattern.literal().into_iter().flat_map(|host| self.of_host(host));
        let wider = |suffix| std::iter::once(suffix).chain(suffixes(suffix));
        let below = pattern.suffix().into_iter().flat_map(wider);
        let below = below.filter_map(|suffix| self.below.get(suffix)).flatten();
        of_host.chain(below)
    }

    /// Whether exactly this pattern, without a wildcard, was inserted.
    pub(super) fn has(&self, pattern: &HostPattern) -> bool {
        let entries = pattern.literal().and_then(|host| self.exact.get(host));
        entries.is_some_and(|all| all.iter().any(|entry| entry.pattern == *pattern))
    }

    /// Whether a pattern without a wildcard matches the target.
    pub(super) fn has_literal(&self, target: &Target) -> bool {
        let entries = self.exact.get(target.host());
        entries.is_some_and(|all| all.iter().any(|entry| entry.pattern.matches_port(target)))
    }
}

/// The suffixes of a name: `a.b.c` has `b.c` and `c`.
pub(super) fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(dot, _)| &name[dot + 1..])
}

/// Values by host pattern, each with a reference count.
#[derive(Clone, Debug)]
pub(super) struct CountedIndex<T> {
    exact: SharedMap<Host, Arc<Vec<CountedValue<T>>>>,
    below: SharedMap<Arc<str>, Arc<Vec<CountedValue<T>>>>,
}

/// A value with its pattern and count.
#[derive(Clone, Debug)]
struct CountedValue<T> {
    value: T,
    pattern: HostPattern,
    by: usize,
}

impl<T> Default for CountedIndex<T> {
    fn default() -> Self {
        Self { exact: SharedMap::default(), below: SharedMap::default() }
    }
}

impl<T> CountedIndex<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    /// The values whose patterns match the target, port included: those of the exact host first, then by
    /// decreasing length of the suffix; within one host in the order of the values.
    pub(super) fn matching<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a T> + 'a {
        let below = match self.below.is_empty() {
            true => None,
            false => target.host().name().map(suffixes),
        };
        let below = below.into_iter().flatten().filter_map(|suffix| self.below.get(suffix));
        let all = self.exact.get(target.host()).into_iter().chain(below);
        let meant = all.flat_map(|all| all.iter()).filter(|it| it.pattern.matches_port(target));
        meant.map(|counted| &counted.value)
    }

    /// Whether a pattern without a wildcard matches the target.
    pub(super) fn has_literal(&self, target: &Target) -> bool {
        let all = self.exact.get(target.host());
        all.is_some_and(|all| all.iter().any(|counted| counted.pattern.matches_port(target)))
    }
}

impl<T: Clone + Ord> CountedIndex<T> {
    /// Increments the value's count.
    pub(super) fn add(&mut self, pattern: &HostPattern, value: T) {
        let all = Arc::make_mut(match (pattern.literal(), pattern.suffix()) {
            (Some(host), _) => self.exact.entry(host.clone()),
            (None, suffix) => self.below.entry(suffix.unwrap_or_default().into()),
        });
        match position(all, pattern, &value) {
            Ok(at) => all[at].by += 1,
            Err(at) => all.insert(at, CountedValue { value, pattern: pattern.clone(), by: 1 }),
        }
    }

    /// Decrements the value's count, and removes it at zero.
    pub(super) fn take(&mut self, pattern: &HostPattern, value: &T) {
        let suffix = pattern.suffix().unwrap_or_default();
        let all = match pattern.literal() {
            Some(host) => self.exact.get_mut(host),
            None => self.below.get_mut(suffix),
        };
        let Some(all) = all.map(Arc::make_mut) else { return };
        let Ok(at) = position(all, pattern, value) else { return };
        match all[at].by {
            0 | 1 => drop(all.remove(at)),
            _ => all[at].by -= 1,
        }
        if !all.is_empty() {
            return;
        }
        match pattern.literal() {
            Some(host) => drop(self.exact.remove(host)),
            None => drop(self.below.remove(suffix)),
        }
    }
}

/// The position of the value, or where it would be inserted.
fn position<T: Ord>(
    all: &[CountedValue<T>],
    pattern: &HostPattern,
    value: &T,
) -> Result<usize, usize> {
    all.binary_search_by(|it| (&it.value, &it.pattern).cmp(&(value, pattern)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::host::Scheme;

    #[test]
    fn a_look_up_finds_what_a_scan_would() {
        let texts = [
            "a.example.com",
            "*.example.com",
            "*.a.example.com",
            "a.example.com:8443",
            "*.example.com:8443",
            "10.0.0.1",
            "example.com",
            "b.example.com",
        ];
        let mut index = HostIndex::default();
        for text in texts {
            index.insert(HostPattern::parse(text).expect(text), text);
        }
        for authority in [
            "a.example.com",
            "x.a.example.com",
            "y.x.a.example.com",
            "example.com",
            "com",
            "a.example.com:8443",
            "b.example.com:8443",
            "10.0.0.1",
            "10.0.0.10",
            "0.1.test",
            "xexample.com",
        ] {
            let target = Target::parse(Scheme::Https, authority).expect(authority);
            let mut found: Vec<_> = index.matching(&target).map(|entry| entry.value).collect();
            let is_meant = |text: &&str| HostPattern::parse(text).expect(text).matches(&target);
            let mut scanned: Vec<_> = texts.into_iter().filter(|text| is_meant(text)).collect();
            found.sort_unstable();
            scanned.sort_unstable();
            assert_eq!(found, scanned, "{authority}");
        }
    }

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).expect(text)
    }

    fn found(index: &CountedIndex<u8>, authority: &str) -> Vec<u8> {
        let target = Target::parse(Scheme::Https, authority).expect(authority);
        index.matching(&target).copied().collect()
    }

    #[test]
    fn a_value_is_removed_with_its_last_reference() {
        let mut index = CountedIndex::default();
        for (host, value) in
            [("a.ex.test", 2), ("a.ex.test", 1), ("*.ex.test", 3), ("a.ex.test:8443", 4)]
        {
            index.add(&pattern(host), value);
        }
        index.add(&pattern("a.ex.test"), 1);
        let before = index.clone();
        assert_eq!(found(&index, "a.ex.test"), [1, 2, 3]);
        assert_eq!(found(&index, "b.ex.test"), [3]);
        assert_eq!(found(&index, "a.ex.test:8443"), [4]);
        index.take(&pattern("a.ex.test"), &1);
        assert_eq!(found(&index, "a.ex.test"), [1, 2, 3]);
        index.take(&pattern("a.ex.test"), &1);
        index.take(&pattern("*.ex.test"), &3);
        index.take(&pattern("*.ex.test"), &3);
        assert_eq!(found(&index, "a.ex.test"), [2]);
        index.take(&pattern("a.ex.test:8443"), &4);
        index.take(&pattern("a.ex.test"), &2);
        assert!(index.is_empty());
        assert_eq!(found(&before, "a.ex.test"), [1, 2, 3], "the one before stays as it was");
    }
}
