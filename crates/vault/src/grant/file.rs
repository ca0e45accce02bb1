//! `file`: the path of a file or folder that an agent may use. It is sent nowhere. [`PrivatePaths`] are those of Keyward
//! itself, which no agent gets.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::GrantError;
use keyward_base::secret::Secret;
use keyward_rules::provider::file::PATH;

/// Characters with a meaning in the URLs that programs get. Not all of them decode a path.
const OF_URLS: &[char] = &['?', '#', '%', '&', ';'];

/// Checks the path of a new grant, whose fields are text on one line.
pub(super) fn checked(
    values: BTreeMap<String, Secret>,
) -> Result<BTreeMap<String, Secret>, GrantError> {
    let text = values.get(PATH).and_then(Secret::expose_text).unwrap_or_default();
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(refused("must be absolute, such as /srv/data/app.db"));
    }
    if text.contains(OF_URLS) {
        return Err(refused(
            "holds one of ?, #, %, & and ;, which end a path in the URLs of programs",
        ));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refused("must not contain `..`"));
    }
    Ok(values)
}

/// Why a path is refused.
pub(super) fn refused(why: &str) -> GrantError {
    GrantError::Refused { field: PATH.to_owned(), why: why.to_owned() }
}

/// Files and folders of Keyward: its data directory and its keys.
#[derive(Clone, Debug, Default)]
pub struct PrivatePaths(Vec<PathBuf>);

impl PrivatePaths {
    /// A path without parts is none.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self(paths.into_iter().filter_map(|path| std::path::absolute(path).ok()).collect())
    }

    /// Whether the path is one of them, in one, or has one in it, also by symbolic links. Links that cannot be followed
    /// count, because what they lead to may come to be. Hard links and mounts of the same folder are not recognised.
    pub fn cover(&self, path: &Path) -> bool {
        let Some(path) = resolved(path) else { return true };
        self.0.iter().any(|own| {
            let own = resolved(own).unwrap_or_else(|| own.clone());
            path.starts_with(&own) || own.starts_with(&path)
        })
    }

    /// Refuses the path of a grant, of whose fields these are not secret, if they cover it.
    pub(crate) fn check(&self, shown: &BTreeMap<String, String>) -> Result<(), GrantError> {
        match shown.get(PATH).is_some_and(|path| self.cover(Path::new(path))) {
            true => Err(refused("leads to Keyward's own files, or is a link that leads nowhere")),
            false => Ok(()),
        }
    }
}

/// The path without links. Its last parts need not exist. `None` if it has a link that cannot be followed.
fn resolved(path: &Path) -> Option<PathBuf> {
    match path.canonicalize() {
        Ok(path) => Some(path),
        Err(_) if path.symlink_metadata().is_ok() => None,
        Err(_) => Some(resolved(path.parent()?)?.join(path.file_name()?)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn taken(path: &str) -> Result<(), String> {
        let values = [(PATH.to_owned(), Secret::from(path.to_owned()))];
        checked(values.into()).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_path_that_is_relative_or_means_something_else_in_a_url_is_refused() {
        for (bad, says) in [
            ("app.db", "must be absolute"),
            ("./app.db", "must be absolute"),
            ("~/app.db", "must be absolute"),
            ("file:/srv/app.db", "must be absolute"),
            ("sqlite:////srv/app.db", "must be absolute"),
            ("", "must be absolute"),
            ("/srv/app.db?mode=rw", "which end a path"),
            ("/srv/a#b", "which end a path"),
            ("/srv/a%2e", "which end a path"),
            ("/srv/a&vfs=x", "which end a path"),
            ("/srv/a;b", "which end a path"),
            ("/srv/../etc/passwd", "`..`"),
            ("/srv/..", "`..`"),
        ] {
            let why = taken(bad).unwrap_err();
            assert!(why.starts_with("field `path`: ") && why.contains(says), "{bad}: {why}");
        }
        for good in ["/srv/app.db", "/srv/my data/a..b.db", "/srv/{path}", "/"] {
            assert_eq!(taken(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn keywards_own_files_are_covered_also_by_links_and_from_above() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("data")).unwrap();
        std::fs::create_dir(at("shared")).unwrap();
        std::fs::write(at("data/master.key"), "k").unwrap();
        std::fs::write(at("shared/app.db"), "").unwrap();
        symlink(at("data"), at("link")).unwrap();
        symlink(at("link/master.key"), at("shared/innocent.db")).unwrap();
        symlink(at("data/later.db"), at("shared/dangling.db")).unwrap();
        symlink(at("shared/loop"), at("shared/loop")).unwrap();
        symlink(at("shared"), at("other")).unwrap();
        let own = PrivatePaths::new(vec![at("link"), at("keys/ca.key")]);
        assert!(!PrivatePaths::new(vec![PathBuf::new()]).cover(&at("shared/app.db")));
        for covered in [
            "data",
            "data/master.key",
            "data/not/yet",
            "link/master.key",
            "shared/innocent.db",
            "shared/dangling.db",
            "shared/loop",
            "other/innocent.db",
            "keys/ca.key",
            "keys",
            "",
        ] {
            assert!(own.cover(&at(covered)), "{covered}");
            let shown = [(PATH.to_owned(), at(covered).display().to_string())];
            assert!(own.check(&shown.into()).is_err(), "{covered}");
        }
        for other in ["shared", "shared/app.db", "other/app.db", "absent/app.db", "data2", "keys/b"]
        {
            assert!(!own.cover(&at(other)), "{other}");
        }
        assert!(own.cover(Path::new("/")));
        assert!(!PrivatePaths::default().cover(&at("data")));
    }
}
