//! [`DatabaseUrl`]: detects that the file of `store.postgres.url` has another URL than the one of the start, which stays in
//! use until the next one.

use crate::config::{Config, StoreChoice};
use keyward_state::crypto::token::TokenHash;

/// The key whose change waits for a restart.
pub(super) const URL_KEY: &str = "store.postgres.url";

/// The hash of the URL in a file; `None` if the URL is in no file, or the file cannot be read.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct DatabaseUrl(Option<TokenHash>);

impl DatabaseUrl {
    /// Reads the file, if the configuration names one. Blocks.
    pub(super) fn read(config: &Config) -> Self {
        let url = match &config.store {
            StoreChoice::Postgres(choice) => choice.url.file().map(|_| &choice.url),
            StoreChoice::Memory | StoreChoice::Sled { .. } => None,
        };
        let read = url.and_then(|url| url.load(&config.environment, &[]).ok());
        Self(read.map(|url| TokenHash::of_secret(&url)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_another_content_of_the_file_is_another_database_url() {
        let folder = tempfile::tempdir().unwrap();
        let (file, url) = (folder.path().join("keyward.yaml"), folder.path().join("url"));
        let yaml = "store: { postgres: { url: { file: url } } }\nmaster_key: { env: MASTER_KEY }\n";
        let data = folder.path().display().to_string();
        let variables = BTreeMap::from([("KEYWARD_DATA".to_owned(), data)]);
        let config = Config::parse(yaml, &file, &variables).unwrap();
        let write = |text: &str| {
            fs::write(&url, text).unwrap();
            fs::set_permissions(&url, fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("postgres://a:canary@h/d\n");
        let before = DatabaseUrl::read(&config);
        write("postgres://a:canary@h/d");
        assert!(DatabaseUrl::read(&config) == before, "a line end is no part of it");
        write("postgres://a:other@h/d");
        assert!(DatabaseUrl::read(&config) != before);
        fs::remove_file(&url).unwrap();
        assert!(DatabaseUrl::read(&config) != before);
    }
}
