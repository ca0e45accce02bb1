//! [`RowRange`]: which rows of a table are listed.

/// Up to `limit` rows whose keys begin with `prefix` and come after `after`.
#[derive(Clone, Copy, Debug)]
pub struct RowRange<'a> {
    pub prefix: &'a str,
    pub after: Option<&'a str>,
    pub limit: usize,
}

impl<'a> RowRange<'a> {
    /// The first rows of a table.
    pub fn first(limit: usize) -> Self {
        Self::after(None, limit)
    }

    /// The rows after this key, or the first ones.
    pub fn after(after: Option<&'a str>, limit: usize) -> Self {
        Self { prefix: "", after, limit }
    }
}
