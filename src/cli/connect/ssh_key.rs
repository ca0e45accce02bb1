//! `keyward connect --key FILE`: the private key of an SSH connection, checked before anything is asked.

use std::path::Path;

use super::super::connection::secrets::SecretArgs;
use super::super::failure::Failure;
use super::super::secret::{self, Typed};
use keyward_base::secret::Secret;
use keyward_ssh::private_key::{KeyError, PrivateKey};

/// The provider of SSH keys, and the fields of its form.
const PROVIDER: &str = "ssh";
const KEY: &str = "private_key";
const PASSPHRASE: &str = "passphrase";

/// Takes the key of a file. The passphrase of an encrypted one is asked for on a terminal.
pub(super) fn take(
    provider: &mut Option<String>,
    secrets: &mut SecretArgs,
    path: &Path,
) -> Result<(), Failure> {
    if provider.get_or_insert_with(|| PROVIDER.to_owned()) != PROVIDER {
        return Err(Failure::usage("--key is for SSH keys: `keyward connect ssh --key FILE`"));
    }
    let name = path.display().to_string();
    if secrets.names(KEY) {
        return Err(Failure::usage("the private key is given twice").hint("omit --key"));
    }
    let key = Typed::from_file(path)?;
    match PrivateKey::parse(&Secret::new(key.text())) {
        Ok(_) => {}
        // The vault checks the passphrase.
        Err(KeyError::Encrypted) if secrets.names(PASSPHRASE) => {}
        Err(KeyError::Encrypted) => {
            let typed = passphrase(path)?;
            secrets.held_fields.push((PASSPHRASE.to_owned(), typed));
        }
        Err(error) => return Err(Failure::usage(format!("{name}: {error}"))),
    }
    secrets.held_fields.push((KEY.to_owned(), key));
    Ok(())
}

fn passphrase(path: &Path) -> Result<Typed, Failure> {
    let name = path.display();
    if !secret::can_ask() {
        return Err(Failure::usage(format!("{name} has a passphrase")).hint(
            "give it with --secret-file passphrase=FILE, or make a key for the agent alone: \
             ssh-keygen -t ed25519 -N '' -f FILE",
        ));
    }
    Typed::from_prompt(&format!("passphrase of {name}"))
}
