//! Trusted roots of the user's own environment. The variables that name them get our files, to which these roots are added.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::files::{BUNDLE, CA};
use super::table::{SetTo, TABLE};

/// Bytes of one file of roots. That of Mozilla's has 200 KB.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates in the files that inherited variables name.
#[derive(Clone, Debug, Default)]
pub(super) struct InheritedRoots {
    texts: Vec<String>,
    /// Variables whose file cannot be read, and the reason.
    unread: Vec<(&'static str, String)>,
}

impl InheritedRoots {
    /// `variable`: the value of a variable that is set and not empty.
    pub(super) fn of(variable: &impl Fn(&str) -> Option<OsString>) -> Self {
        let (mut roots, mut read) = (Self::default(), BTreeSet::new());
        for entry in TABLE.iter().filter(|entry| entry.set_to.names_roots()) {
            let Some(path) = variable(entry.name).map(PathBuf::from) else { continue };
            if !read.insert(path.clone()) {
                continue;
            }
            let mut bytes = Vec::new();
            let file =
                File::open(&path).and_then(|it| it.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
            match file {
                Ok(_) => roots.texts.push(String::from_utf8_lossy(&bytes).into_owned()),
                Err(error) => {
                    roots.unread.push((entry.name, format!("{}: {error}", path.display())))
                }
            }
        }
        roots
    }

    /// Those that `bundle` lacks, as PEM.
    pub(super) fn beside(&self, bundle: &str) -> String {
        let mut known: BTreeSet<String> = certificates(bundle).map(base64_of).collect();
        let all = self.texts.iter().flat_map(|text| certificates(text));
        let new = all.filter(|certificate| known.insert(base64_of(certificate)));
        new.map(|certificate| format!("{BEGIN}{certificate}{END}\n")).collect()
    }

    /// Notes about files that cannot be read.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        self.unread.iter().map(|(name, why)| {
            format!(
                "note: the program does not trust the roots of {name}, which cannot be read: {why}\n\
                 hint: correct or unset {name}"
            )
        })
    }
}

impl SetTo {
    /// Whether a value of the user's own is a file of roots.
    fn names_roots(self) -> bool {
        matches!(self, Self::File(BUNDLE | CA) | Self::BundleForOwn)
    }
}

/// What stands between the lines of each certificate.
fn certificates(pem: &str) -> impl Iterator<Item = &str> {
    pem.split(BEGIN).skip(1).filter_map(|rest| Some(rest.split_once(END)?.0))
}

fn base64_of(certificate: &str) -> String {
    certificate.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(content: &str) -> String {
        format!("{BEGIN}\n{content}\n{END}\n")
    }

    #[test]
    fn roots_of_every_variable_are_added_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path.into_os_string())
        };
        let corp = format!("# of the company\n{}{}", pem("Y29y\ncA=="), pem("cm9vdA=="));
        let variable = |name: &str| match name {
            "CURL_CA_BUNDLE" => file("curl", &corp),
            "NODE_EXTRA_CA_CERTS" => file("node", &pem("Y29ycA==")),
            "PIP_CERT" => file("pip", &pem("cGlw")),
            "npm_config_cafile" => Some(folder.path().join("absent").into()),
            "HTTPS_PROXY" => file("none", &pem("no")),
            _ => None,
        };
        let roots = InheritedRoots::of(&variable);
        let added = roots.beside(&pem("cm9vdA=="));
        assert_eq!(added, format!("{}{}", pem("Y29y\ncA=="), pem("cGlw")));
        assert_eq!(roots.beside(&format!("{}{added}", pem("cm9vdA=="))), "", "made again");
        let [note] = &roots.notes().collect::<Vec<_>>()[..] else { panic!("one note") };
        assert!(note.contains("roots of npm_config_cafile, which cannot be read: "), "{note}");
    }
}
