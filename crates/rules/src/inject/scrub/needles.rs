//! [`Needles`]: all forms of a credential's secrets, and the search for them.

use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::MASK;
use super::forms::{Form, SECRET_BYTES_MIN, forms};
use keyward_base::secret::Secret;

/// The search is for eight bytes of each needle, its key; the rest is compared. So it is small and quick
/// however long a token is.
const KEY: usize = SECRET_BYTES_MIN;

/// The key of most forms is eight letters and digits of the secret, which no quoting changes: however
/// many forms there are, they are one key. So far from the beginning of the secret it may be.
const ANCHOR_WITHIN: usize = 64;

/// And so far from the beginning of a form: six bytes for each before it, as in `\u002b`. This much of the
/// end of a buffer is looked at for needles that it cuts before their key.
const KEY_WITHIN: usize = 6 * ANCHOR_WITHIN;

/// Up to so many keys are searched for with vector instructions; beyond, by an automaton that is worth
/// its memory.
const VECTOR_KEYS_MAX: usize = 64;

/// What must not be in an answer. The needles are wiped when dropped; the search keeps eight bytes of
/// each, which are not.
pub struct Needles {
    /// Sorted by key, each once.
    all: Vec<Needle>,
    /// Of each key, its needles in `all`.
    groups: Vec<Range<usize>>,
    keys: Option<AhoCorasick>,
    /// Places in `all`, by text.
    ordered: Vec<usize>,
    /// Bytes that a needle begins with.
    begins: [bool; 256],
    /// Bytes before the key, at most.
    before_key: usize,
}

/// A form, and where its key stands in it.
#[derive(Clone)]
struct Needle {
    form: Form,
    key_at: usize,
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
        Self::of(sought.into_iter().flat_map(needles).collect())
    }

    /// With all that `other` looks for.
    pub fn and(&self, other: &Self) -> Self {
        Self::of(self.all.iter().chain(&other.all).cloned().collect())
    }

    fn of(mut all: Vec<Needle>) -> Self {
        all.sort_by(|a, b| (a.key(), a.form.as_slice()).cmp(&(b.key(), b.form.as_slice())));
        all.dedup_by(|a, b| a.form == b.form);
        let groups = groups(&all);
        let keys: Vec<&[u8]> = groups.iter().map(|group| all[group.start].key()).collect();
        let mut begins = [false; 256];
        all.iter().for_each(|needle| begins[usize::from(needle.form[0])] = true);
        let mut ordered: Vec<usize> = (0..all.len()).collect();
        ordered.sort_by_key(|at| all[*at].form.as_slice());
        let before_key = all.iter().map(|needle| needle.key_at).max().unwrap_or(0);
        let keys = (!keys.is_empty()).then(|| search_for(&keys));
        Self { all, groups, keys, ordered, begins, before_key }
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
        // Where a needle begins and its key has no room.
        let cut = bytes.len().saturating_sub(self.before_key + KEY - 1)..found.open;
        if let Some(open) = cut.into_iter().find(|start| self.begins(&bytes[*start..])) {
            found.open = open;
        }
        found.join();
        found
    }

    /// Compares the needles whose key stands at `key`.
    fn judge(&self, bytes: &[u8], key: usize, group: &Range<usize>, found: &mut Found) {
        for Needle { form, key_at } in &self.all[group.clone()] {
            let Some(start) = key.checked_sub(*key_at) else { continue };
            let rest = &bytes[start..];
            if rest.starts_with(form) {
                found.spans.push(start..start + form.len());
            } else if rest.len() < form.len() && form.starts_with(rest) {
                found.open = found.open.min(start);
            }
        }
    }

    fn forms(&self) -> impl Iterator<Item = &Form> {
        self.all.iter().map(|needle| &needle.form)
    }

    /// Whether some needle begins with `bytes` and goes on.
    pub(super) fn begins(&self, bytes: &[u8]) -> bool {
        if !bytes.first().is_some_and(|first| self.begins[usize::from(*first)]) {
            return false;
        }
        let form = |at: &usize| self.all[*at].form.as_slice();
        let first = self.ordered.partition_point(|at| form(at) < bytes);
        // The first of them may be `bytes` itself.
        let mut next = self.ordered[first..].iter().take(2).map(form);
        next.any(|form| form.len() > bytes.len() && form.starts_with(bytes))
    }

    /// Whether `bytes` stand anywhere inside a needle.
    pub(super) fn are_around(&self, bytes: &[u8]) -> bool {
        self.forms().any(|form| position(form, bytes).is_some())
    }

    /// The longest end of a needle, but not all of one, that `bytes` begin with.
    pub(super) fn end_at_start_of(&self, bytes: &[u8]) -> usize {
        let end = |needle: &Form| {
            let longest = bytes.len().min(needle.len() - 1);
            (1..=longest).rev().find(|length| needle.ends_with(&bytes[..*length]))
        };
        self.forms().filter_map(end).max().unwrap_or(0)
    }
}

impl Needle {
    fn key(&self) -> &[u8] {
        &self.form[self.key_at..self.key_at + KEY]
    }
}

impl Found {
    /// Puts the spans in order; those that touch become one.
    fn join(&mut self) {
        self.spans.sort_by_key(|span| span.start);
        self.spans.dedup_by(|span, before| {
            let touches = span.start <= before.end;
            if touches {
                before.end = before.end.max(span.end);
            }
            touches
        });
    }
}

/// The forms of a secret, with one key for as many as can share one: fewer keys are searched for faster.
fn needles(secret: &[u8]) -> impl Iterator<Item = Needle> {
    // The first letters and digits that are enough for a key.
    let anchor = window(secret, ANCHOR_WITHIN, u8::is_ascii_alphanumeric);
    let anchor = anchor.map(|at| &secret[at..at + KEY]);
    forms(secret).into_iter().map(move |form| {
        let of_anchor = anchor.and_then(|anchor| {
            let beginning = &form[..form.len().min(KEY_WITHIN + KEY)];
            position(beginning, anchor)
        });
        // Escapes of all characters, in both cases of their digits; base64, in both alphabets.
        let of_escapes = || {
            window(&form, KEY_WITHIN, |byte| {
                byte.is_ascii_digit() || matches!(byte, b'%' | b'\\' | b'u' | b'x')
            })
        };
        let of_letters = || window(&form, KEY_WITHIN, u8::is_ascii_alphanumeric);
        let key_at = of_anchor.or_else(of_escapes).or_else(of_letters).unwrap_or(0);
        Needle { form, key_at }
    })
}

/// Where the first key of such bytes begins, no further than `within`.
fn window(text: &[u8], within: usize, is_meant: impl Fn(&u8) -> bool) -> Option<usize> {
    let mut windows = text[..text.len().min(within + KEY)].windows(KEY);
    windows.position(|window| window.iter().all(&is_meant))
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
fn groups(all: &[Needle]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, needle) in all.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if all[group.start].key() == needle.key() => group.end = index + 1,
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
