//! [`Needles`]: all forms of a credential's secrets, and the search for them.

use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::MASK;
use super::forms::{Form, SECRET_BYTES_MIN, forms};
use crate::base::secret::Secret;

/// The search is for the first eight bytes of needles, which all have; what follows is compared. So it
/// is small and quick however long a token is.
const KEY: usize = SECRET_BYTES_MIN;

/// Up to so many keys are searched for with vector instructions; beyond, by an automaton that is worth
/// its memory.
const VECTOR_KEYS_MAX: usize = 64;

/// What must not be in an answer. The needles are wiped when dropped; the search keeps the first eight
/// bytes of each, which are not.
pub struct Needles {
    /// Sorted, each once.
    all: Vec<Form>,
    /// Of each key, its needles in `all`.
    groups: Vec<Range<usize>>,
    keys: Option<AhoCorasick>,
    /// Bytes that a key begins with.
    begins: [bool; 256],
}

/// What stands in a buffer.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    /// Where needles are, in order, those that touch as one.
    pub(super) spans: Vec<Range<usize>>,
    /// From here on, the rest of the buffer begins a needle; its length when none does.
    pub(super) open: usize,
}

impl Needles {
    /// From the secrets that an owner gave or a server issued, and the values that are written into
    /// requests with any of them.
    pub fn new<'a>(
        secrets: impl IntoIterator<Item = &'a Secret>,
        written: impl IntoIterator<Item = &'a Secret>,
    ) -> Self {
        let mut sought: Vec<&[u8]> = secrets.into_iter().map(Secret::expose).collect();
        sought.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
        let given = sought.len();
        for value in written {
            let value = bare(value.expose());
            // Where a secret stands in the value as it is, the rest of it is none.
            if !sought[..given].iter().any(|secret| position(value, secret).is_some()) {
                sought.push(value);
            }
        }
        Self::of(sought.into_iter().flat_map(forms).collect())
    }

    /// With all that `other` looks for.
    pub fn and(&self, other: &Self) -> Self {
        Self::of(self.all.iter().chain(&other.all).cloned().collect())
    }

    fn of(mut all: Vec<Form>) -> Self {
        all.sort_by(|a, b| a.as_slice().cmp(b));
        all.dedup();
        let groups = groups(&all);
        let keys: Vec<&[u8]> = groups.iter().map(|group| &all[group.start][..KEY]).collect();
        let mut begins = [false; 256];
        keys.iter().for_each(|key| begins[usize::from(key[0])] = true);
        let keys = (!keys.is_empty()).then(|| search_for(&keys));
        Self { all, groups, keys, begins }
    }

    /// Whether nothing is looked for: all secrets are too short.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a needle stands in `bytes`.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        !self.search(bytes).spans.is_empty()
    }

    /// `bytes` with every needle masked, and how many there were; `None` when there are none.
    pub fn masked(&self, bytes: &[u8]) -> Option<(Vec<u8>, u64)> {
        // Nearly always that is all.
        self.keys.as_ref()?.find(bytes)?;
        let found = self.search(bytes);
        if found.spans.is_empty() {
            return None;
        }
        let mut masked = bytes.to_vec();
        let count = found.spans.len() as u64;
        found.spans.into_iter().for_each(|span| masked[span].fill(MASK));
        Some((masked, count))
    }

    /// Every needle, overlapping ones too, and where one begins that the end cuts.
    pub(super) fn search(&self, bytes: &[u8]) -> Found {
        let mut found = Found { spans: Vec::new(), open: bytes.len() };
        let Some(keys) = &self.keys else { return found };
        let mut from = 0;
        while let Some(key) = keys.find(Input::new(bytes).range(from..)) {
            from = key.start() + 1;
            self.judge(bytes, key.start(), &self.groups[key.pattern()], &mut found);
        }
        // Where not even a key has room. None of these can be before one that the loop found open.
        let cut = bytes.len().saturating_sub(KEY - 1)..found.open;
        if let Some(open) = cut.into_iter().find(|start| self.begins(&bytes[*start..])) {
            found.open = open;
        }
        found
    }

    /// Compares the needles whose key stands at `start`.
    fn judge(&self, bytes: &[u8], start: usize, group: &Range<usize>, found: &mut Found) {
        let rest = &bytes[start..];
        for needle in &self.all[group.clone()] {
            if rest.starts_with(needle) {
                found.add(start..start + needle.len());
            } else if rest.len() < needle.len() && needle.starts_with(rest) {
                found.open = found.open.min(start);
            }
        }
    }

    /// Whether some needle begins with `bytes` and goes on.
    pub(super) fn begins(&self, bytes: &[u8]) -> bool {
        let first = bytes.first().is_some_and(|first| self.begins[usize::from(*first)]);
        first && self.all.iter().any(|n| n.len() > bytes.len() && n.starts_with(bytes))
    }

    /// Whether `bytes` stand anywhere inside a needle.
    pub(super) fn are_around(&self, bytes: &[u8]) -> bool {
        self.all.iter().any(|needle| position(needle, bytes).is_some())
    }

    /// The longest end of a needle, but not all of one, that `bytes` begin with.
    pub(super) fn end_at_start_of(&self, bytes: &[u8]) -> usize {
        let end = |needle: &Form| {
            let longest = bytes.len().min(needle.len() - 1);
            (1..=longest).rev().find(|length| needle.ends_with(&bytes[..*length]))
        };
        self.all.iter().filter_map(end).max().unwrap_or(0)
    }
}

impl Found {
    /// Notes a needle. They come in the order of their beginnings.
    fn add(&mut self, span: Range<usize>) {
        match self.spans.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => self.spans.push(span),
        }
    }
}

/// A written value without its scheme (`Bearer …`), the slashes of a path, and padding of base64, which
/// servers leave out when they repeat it.
fn bare(value: &[u8]) -> &[u8] {
    let value = value.rsplit(|byte| *byte == b' ').next().unwrap_or(value);
    let is_edge = |byte: &u8| matches!(byte, b'/' | b'=');
    let start = value.iter().position(|byte| *byte != b'/').unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_edge(byte)).map_or(start, |last| last + 1);
    &value[start..end.max(start)]
}

/// Runs of needles with an equal key.
fn groups(all: &[Form]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, needle) in all.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if all[group.start][..KEY] == needle[..KEY] => group.end = index + 1,
            _ => groups.push(index..index + 1),
        }
    }
    groups
}

fn search_for(keys: &[&[u8]]) -> AhoCorasick {
    let kind = match keys.len() <= VECTOR_KEYS_MAX {
        true => AhoCorasickKind::ContiguousNFA,
        false => AhoCorasickKind::DFA,
    };
    AhoCorasick::builder()
        // Keys have one length, so at most one stands at a position; and the vector search knows no
        // other kind.
        .match_kind(MatchKind::LeftmostFirst)
        .kind(Some(kind))
        .build(keys)
        .expect("fewer and shorter patterns than the limits of the automaton")
}

/// Where `needle` begins in `text`.
fn position(text: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    text.windows(needle.len()).position(|window| window == needle)
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Needles({} …)", self.all.len())
    }
}
