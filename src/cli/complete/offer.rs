//! A word that completes a line.

/// A word, and what it is.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct CompletionWord {
    pub(super) word: String,
    pub(super) about: String,
}
