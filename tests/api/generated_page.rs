//! Pages of `docs/reference` with a part that is made from the code: it is compared, or written if
//! `KEYWARD_WRITE_DOCS` is set.

use std::path::Path;

/// A page; its generated part is between the marks.
pub(crate) struct GeneratedPage {
    /// The file in `docs/reference`.
    pub(crate) file: &'static str,
    pub(crate) text: &'static str,
    pub(crate) marks: [&'static str; 2],
}

impl GeneratedPage {
    /// Compares the generated part with `made`, or writes it.
    ///
    /// # Panics
    /// When they differ.
    pub(crate) fn check(&self, made: &str) {
        let ([begin, end], written) = (self.marks, between(self.text, self.marks));
        if std::env::var_os("KEYWARD_WRITE_DOCS").is_some() {
            let old = format!("{begin}{written}{end}");
            let page = self.text.replacen(&old, &format!("{begin}{made}{end}"), 1);
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
            std::fs::write(folder.join(self.file), page).expect("the page can be written");
            return;
        }
        assert!(
            written == made,
            "run this test once with KEYWARD_WRITE_DOCS=1, and commit the page"
        );
    }
}

/// The text between two marks.
pub(crate) fn between<'t>(text: &'t str, [begin, end]: [&str; 2]) -> &'t str {
    let (_, rest) = text.split_once(begin).expect("the page has its marks");
    rest.split_once(end).expect("the page has its marks").0
}
