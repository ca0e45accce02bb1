//! Lists of names that are data.

/// The lines of a list. Those that begin with `#` are comments.
pub fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}
