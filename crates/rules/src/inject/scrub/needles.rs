//! [`Needles`]: all forms of a credential's secrets, and the search for them.

use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::MASK;
use super::forms::{Form, SECRET_BYTES_MIN, forms};
use super::tail::{Alphabet, TailRuns};
use keyward_base::secret::Secret;

/// Length of a key: the search looks for eight bytes of each needle and compares the rest. This keeps it small
/// and fast for tokens of any length.
const KEY: usize = SECRET_BYTES_MIN;

/// How far from the beginning of the secret the key may be. Most forms share a key of eight letters and digits,
/// which no quoting changes.
const ANCHOR_WITHIN: usize = 64;

/// How far from the beginning of a form the key may be: six bytes per character before it, as in `\u002b`. This
/// much of a buffer's end is checked for needles that are cut before their key.
const KEY_WITHIN: usize = 6 * ANCHOR_WITHIN;

/// Up to this many keys are searched with vector instructions; more, with an automaton.
const VECTOR_KEYS_MAX: usize = 64;

/// The texts that must not appear in a response. They are wiped when dropped, except for eight bytes of each,
/// which the searcher keeps.
pub struct Needles {
    /// Sorted by key, without duplicates.
    all: Vec<Needle>,
    /// For each key, the range of its needles in `all`.
    groups: Vec<Range<usize>>,
    keys: Option<AhoCorasick>,
    /// Indexes into `all`, sorted by text.
    ordered: Vec<usize>,
    /// Whether a needle begins with this byte.
    begins: [bool; 256],
    /// The largest number of bytes before a key.
    before_key: usize,
    /// The lengths of the shortest and the longest needle; 0 when there is none.
    shortest: usize,
    longest: usize,
    alphabet: Alphabet,
}

/// A form, with the position of its key.
#[derive(Clone)]
struct Needle {
    form: Form,
    key_at: usize,
}

/// The matches in a buffer.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Matches {
    /// The ranges of needles, in order; adjacent ones are joined.
    pub(super) spans: Vec<Range<usize>>,
    /// From this position on, the rest of the buffer begins a needle; the buffer's length if none does.
    pub(super) open: usize,
}

impl Needles {
    /// Needles of the secrets that an owner entered or a server issued, and of the values that are written into
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
            // If the value contains the secret unchanged, the rest is not secret.
            if !sought[..given].iter().any(|secret| position(value, secret).is_some()) {
                sought.push(value);
            }
        }
        Self::of(sought.into_iter().flat_map(needles).collect())
    }

    /// The union with `other`.
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
        let lengths = || all.iter().map(|needle| needle.form.len());
        let (shortest, longest) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
        let keys = (!keys.is_empty()).then(|| search_for(&keys));
        let alphabet = Alphabet::of(all.iter().map(|needle| needle.form.as_slice()));
        Self { all, groups, keys, ordered, begins, before_key, shortest, longest, alphabet }
    }

    /// Whether nothing is searched for, because all secrets are too short.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a name of a field, which is in lower case, contains a needle in any letter case. Most names are shorter than
    /// all needles.
    pub(super) fn are_in_name(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let holds = |needle: &Needle| {
            let mut pieces = name.windows(needle.form.len());
            pieces.any(|piece| piece.eq_ignore_ascii_case(&needle.form))
        };
        name.len() >= self.shortest && self.all.iter().any(holds)
    }

    /// The length of the longest needle, in bytes; 0 when there is none.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Whether `bytes` contain a needle.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        !self.search(bytes).spans.is_empty()
    }

    /// `bytes` with every needle masked, and their number; `None` when there are none.
    pub fn masked(&self, bytes: &[u8]) -> Option<(Vec<u8>, u64)> {
        // In most cases nothing is found.
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

    /// Finds all needles, including overlapping ones, and one that the buffer's end cuts.
    pub(super) fn search(&self, bytes: &[u8]) -> Matches {
        let mut found = Matches { spans: Vec::new(), open: bytes.len() };
        let Some(keys) = &self.keys else { return found };
        let mut from = 0;
        while let Some(key) = keys.find(Input::new(bytes).range(from..)) {
            from = key.start() + 1;
            self.judge(bytes, key.start(), &self.groups[key.pattern()], &mut found);
        }
        // Handles a needle that begins here but whose key is cut.
        let cut = bytes.len().saturating_sub(self.before_key + KEY - 1)..found.open;
        if let Some(open) = cut.into_iter().find(|start| self.begins(&bytes[*start..])) {
            found.open = open;
        }
        found.join();
        found
    }

    /// Compares the needles with the key at position `key`.
    fn judge(&self, bytes: &[u8], key: usize, group: &Range<usize>, found: &mut Matches) {
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

    /// How many bytes at the end of a text may begin a needle, judged by their kinds alone; see [`Alphabet::tail`].
    pub(super) fn tail(&self, runs: &mut TailRuns, piece: &[u8], by_lines: bool) -> usize {
        self.alphabet.tail(runs, piece, self.longest, by_lines)
    }

    /// Whether a needle begins with `bytes` and is longer.
    fn begins(&self, bytes: &[u8]) -> bool {
        if !bytes.first().is_some_and(|first| self.begins[usize::from(*first)]) {
            return false;
        }
        let form = |at: &usize| self.all[*at].form.as_slice();
        let first = self.ordered.partition_point(|at| form(at) < bytes);
        // The first of them may be equal to `bytes`.
        let mut next = self.ordered[first..].iter().take(2).map(form);
        next.any(|form| form.len() > bytes.len() && form.starts_with(bytes))
    }
}

impl Needle {
    fn key(&self) -> &[u8] {
        &self.form[self.key_at..self.key_at + KEY]
    }
}

impl Matches {
    /// Sorts the spans and joins adjacent ones.
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

/// The forms of a secret, with as few keys as possible, because fewer keys are searched faster.
fn needles(secret: &[u8]) -> impl Iterator<Item = Needle> {
    // Chooses the first letters and digits that suffice for a key.
    let anchor = window(secret, ANCHOR_WITHIN, u8::is_ascii_alphanumeric);
    let anchor = anchor.map(|at| &secret[at..at + KEY]);
    // Most encoders write a plain token unchanged: a third of the forms remains.
    let mut forms = forms(secret);
    forms.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
    forms.dedup();
    forms.into_iter().map(move |form| {
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

/// The position of the first key of matching bytes, at most `within`.
fn window(text: &[u8], within: usize, is_meant: impl Fn(&u8) -> bool) -> Option<usize> {
    let mut windows = text[..text.len().min(within + KEY)].windows(KEY);
    windows.position(|window| window.iter().all(&is_meant))
}

/// A written value without its scheme (`Bearer …`), the slashes of a path, and base64 padding, which servers
/// omit when they repeat it.
fn bare(value: &[u8]) -> &[u8] {
    let value = value.rsplit(|byte| *byte == b' ').next().unwrap_or(value);
    let is_edge = |byte: &u8| matches!(byte, b'/' | b'=');
    let start = value.iter().position(|byte| *byte != b'/').unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_edge(byte)).map_or(start, |last| last + 1);
    &value[start..end.max(start)]
}

/// Ranges of needles with an equal key.
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
        // All keys have the same length, so at most one is at a position; the vector search supports no other
        // kind.
        .match_kind(MatchKind::LeftmostFirst)
        .kind(Some(kind))
        .build(keys)
        .expect("fewer and shorter patterns than the limits of the automaton")
}

/// The position of `needle` in `text`.
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
