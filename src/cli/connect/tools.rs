//! Secrets that this machine has already. `keyward connect github --from gh`: takes the token that another command
//! line has; each tool is a row of [`TOOLS`], and its command is fixed here, because a provider's data must not
//! name programs to run. `keyward connect --key FILE`: the private key of an SSH connection, checked before
//! anything is asked.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::super::connection::secrets::SecretArgs;
use super::super::terminal::secret;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::terminal::secret::Typed;
use keyward_base::secret::Secret;
use keyward_ssh::private_key::{KeyError, PrivateKey};

/// A command line with a token.
#[derive(Debug)]
pub(in crate::cli) struct Tool {
    name: &'static str,
    /// The provider of its token.
    pub(in crate::cli) provider: &'static str,
    /// The auth method that takes it.
    pub(super) auth: &'static str,
    /// Arguments that print it.
    print: &'static [&'static str],
    /// What the user types to log in.
    login: &'static str,
}

const TOOLS: &[Tool] = &[Tool {
    // https://cli.github.com/manual/gh_auth_token
    name: "gh",
    provider: "github",
    auth: "pat",
    print: &["auth", "token"],
    login: "gh auth login",
}];

impl Tool {
    /// The tool with this name, for `provider` if one is named.
    ///
    /// # Errors
    /// When there is none, or its token is of another provider.
    pub(in crate::cli) fn named(
        name: &str,
        provider: Option<&str>,
    ) -> Result<&'static Self, Failure> {
        let tool = TOOLS.iter().find(|tool| tool.name == name).ok_or_else(|| {
            let known: Vec<_> = TOOLS.iter().map(|tool| tool.name).collect();
            Failure::usage(format!("no token can be taken from `{name}`"))
                .hint(format!("--from supports: {}", known.join(", ")))
        })?;
        match provider.is_none_or(|provider| provider == tool.provider) {
            true => Ok(tool),
            false => Err(Failure::usage(format!("`{name}` has a token of {}", tool.provider))
                .hint(format!("keyward connect {} --from {name}", tool.provider))),
        }
    }

    /// Runs the tool and takes its token.
    ///
    /// # Errors
    /// When it is missing or has no token.
    pub(in crate::cli) fn token(&self) -> Result<Typed, Failure> {
        let Self { name, login, provider, .. } = self;
        let mut command = Command::new(name);
        command.args(self.print).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::new(Exit::Failed, format!("{name} is not installed"))
                .hint(format!("install it, or paste a token: keyward connect {provider}")),
            _ => Failure::failed(&format!("cannot run {name}"), &error),
        })?;
        let printed = Zeroizing::new(output.stdout);
        if !output.status.success() || printed.trim_ascii().is_empty() {
            return Err(Failure::new(Exit::Failed, format!("{name} is not logged in"))
                .hint(format!("{login}, then repeat this command")));
        }
        let token = Typed::from_output(&printed, name)?;
        output::note(&format!("token of {name}: {}", masked(token.text())));
        Ok(token)
    }
}

/// `gho_… (40 characters)`.
fn masked(token: &str) -> String {
    let prefix = token.split_once('_').map_or(String::new(), |(prefix, _)| format!("{prefix}_"));
    let prefix = if prefix.len() <= 12 { prefix } else { String::new() };
    format!("{prefix}… ({} characters)", token.chars().count())
}

/// The provider of SSH keys, and the fields of its form.
const PROVIDER: &str = "ssh";
const KEY: &str = "private_key";
const PASSPHRASE: &str = "passphrase";

/// Takes the key of a file. The passphrase of an encrypted one is asked for on a terminal.
pub(super) fn take_ssh_key(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_tool_and_a_tool_of_another_provider_are_refused() {
        let unknown = Tool::named("nope", None).unwrap_err().to_string();
        assert!(unknown.contains("hint: --from supports: gh"), "{unknown}");
        let other = Tool::named("gh", Some("stripe")).unwrap_err().to_string();
        assert!(other.contains("hint: keyward connect github --from gh"), "{other}");
    }

    #[test]
    fn a_token_is_shown_only_by_its_prefix_and_length() {
        assert_eq!(masked("gho_0123456789"), "gho_… (14 characters)");
        assert_eq!(masked("0123456789abcdef_x"), "… (18 characters)");
    }
}
