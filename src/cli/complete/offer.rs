//! A word that completes a line.

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct CompletionWord {
    pub(super) word: String,
    pub(super) about: String,
}
