//! `ssh_key`: a private key that signs logins at servers. It is sent nowhere.

use std::collections::BTreeMap;

use super::GrantError;
use keyward_base::secret::Secret;
use keyward_ssh::private_key::PrivateKey;
use keyward_ssh::public_key::KnownHosts;

/// Accounts of one connection.
const USERS_MAX: usize = 100;

/// A private key, the accounts and the servers it is for, under the names of their fields.
#[derive(Debug)]
pub struct SshKey(BTreeMap<String, Secret>);

/// A key that is ready to sign.
#[derive(Debug)]
pub struct OpenedSshKey {
    pub key: PrivateKey,
    /// The accounts that it may log in as.
    pub users: Vec<String>,
    /// The servers that it may log in at.
    pub known_hosts: KnownHosts,
    /// Whether it may be used through a forwarded agent, from any of the servers.
    pub forwarding: bool,
}

impl SshKey {
    /// From checked fields. The key is stored without its passphrase, since the vault seals it.
    pub(super) fn from_fields(mut fields: BTreeMap<String, Secret>) -> Result<Self, GrantError> {
        let refused = |field: &str, why: &dyn std::fmt::Display| GrantError::Refused {
            field: field.to_owned(),
            why: why.to_string(),
        };
        let text = fields.get("private_key").cloned().unwrap_or_else(|| Secret::new(Vec::new()));
        let text = match fields.remove("passphrase") {
            Some(passphrase) => PrivateKey::decrypted(&text, &passphrase)
                .map_err(|error| refused("passphrase", &error))?,
            None => text,
        };
        PrivateKey::parse(&text).map_err(|error| refused("private_key", &error))?;
        fields.insert("private_key".to_owned(), text);
        let grant = Self(fields);
        grant.users().map_err(|why| refused("users", &why))?;
        KnownHosts::parse(grant.text("known_hosts"))
            .map_err(|error| refused("known_hosts", &error))?;
        match grant.text("forwarding") {
            "" | "true" | "false" => Ok(grant),
            _ => Err(refused("forwarding", &"write true or false")),
        }
    }

    pub(super) fn stored(fields: BTreeMap<String, Secret>) -> Self {
        Self(fields)
    }

    pub(super) fn fields(&self) -> &BTreeMap<String, Secret> {
        &self.0
    }

    /// The key, ready to sign; `None` if the stored fields are damaged.
    pub(crate) fn opened(&self) -> Option<OpenedSshKey> {
        Some(OpenedSshKey {
            key: PrivateKey::parse(self.0.get("private_key")?).ok()?,
            users: self.users().ok()?,
            known_hosts: KnownHosts::parse(self.text("known_hosts")).ok()?,
            forwarding: self.text("forwarding") == "true",
        })
    }

    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Secret::expose_text).unwrap_or_default()
    }

    fn users(&self) -> Result<Vec<String>, &'static str> {
        let users = self.text("users").split([',', ' ', '\n']).filter(|user| !user.is_empty());
        let users: Vec<String> = users.map(str::to_owned).collect();
        let is_name = |user: &String| {
            user.len() <= 64
                && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._@+".contains(&b))
        };
        match (users.is_empty() || users.len() > USERS_MAX, users.iter().all(is_name)) {
            (false, true) => Ok(users),
            _ => Err("write the names of accounts with commas between them, such as `git,deploy`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = include_str!("../../../ssh/src/test_keys/ed25519");
    const ENCRYPTED: &str = include_str!("../../../ssh/src/test_keys/encrypted");
    const PUBLIC: &str = include_str!("../../../ssh/src/test_keys/ed25519.pub");

    fn made(key: &str, more: &[(&str, &str)]) -> Result<SshKey, String> {
        let known = format!("git.test {PUBLIC}");
        let usual = [("private_key", key), ("users", "git, deploy"), ("known_hosts", &known)];
        let fields = usual.iter().chain(more);
        let fields =
            fields.map(|(name, text)| ((*name).to_owned(), Secret::from((*text).to_owned())));
        SshKey::from_fields(fields.collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_field_that_cannot_be_used_is_refused_by_name() {
        for (key, more, why) in [
            (
                "no key",
                &[][..],
                "field `private_key`: this is not a private key in OpenSSH's format",
            ),
            (ENCRYPTED, &[], "field `private_key`: the private key has a passphrase"),
            (ENCRYPTED, &[("passphrase", "x")], "field `passphrase`: the passphrase is not that"),
            (KEY, &[("users", "")], "field `users`: write the names of accounts"),
            (KEY, &[("users", "a b/c")], "field `users`: write the names of accounts"),
            (KEY, &[("known_hosts", "git.test")], "field `known_hosts`: there is no host key"),
            (KEY, &[("forwarding", "yes")], "field `forwarding`: write true or false"),
        ] {
            let error = made(key, more).expect_err(why);
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn a_passphrase_is_not_stored() {
        let grant = made(ENCRYPTED, &[("passphrase", "a passphrase")]).expect("a key");
        assert!(!grant.fields().contains_key("passphrase"));
        let opened = grant.opened().expect("it is sound");
        assert!(PUBLIC.starts_with(&opened.key.public_line()), "{:?}", opened.key);
        assert_eq!(opened.users, ["git", "deploy"]);
        assert!(!opened.forwarding);
    }
}
