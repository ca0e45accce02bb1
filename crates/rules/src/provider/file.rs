//! [`FileText`]: what a method of kind `file` says about its files: how they begin, and the variables by which programs
//! find one. The file is on the agent's machine, and no request has a part of it. `check_file.rs` checks it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The field with the path.
pub const PATH: &str = "path";

/// In place of it, variables have [`FileText::read_only`], or nothing.
const READ_ONLY: &str = "{read_only}";

/// What is known of the files of a method.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct FileText {
    /// The first bytes of every such file; empty: any file or folder.
    pub begins: String,
    /// The text of `{read_only}` in variables, if the agent may only read.
    pub read_only: String,
    /// Variables with their values, which have `{path}` and `{read_only}`.
    pub variables: BTreeMap<String, String>,
}

impl FileText {
    /// The variables for the file at `path`.
    pub fn filled(&self, path: &str, is_read_only: bool) -> BTreeMap<String, String> {
        let mode = if is_read_only { &*self.read_only } else { "" };
        // The path last: nothing in it is replaced.
        let value = |text: &str| text.replace(READ_ONLY, mode).replace("{path}", path);
        self.variables.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_path_is_replaced() {
        let file = FileText {
            read_only: "?mode=ro".to_owned(),
            variables: [("ACME_URI".to_owned(), "file:{path}{read_only}".to_owned())].into(),
            ..FileText::default()
        };
        let path = "/a/{read_only}/{path}";
        assert_eq!(file.filled(path, true)["ACME_URI"], format!("file:{path}?mode=ro"));
        assert_eq!(file.filled(path, false)["ACME_URI"], format!("file:{path}"));
    }
}
