//! Sources on the gateway's own machine; and [`CredentialNames`]: which credentials a kind of secret source takes.

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::given;
use crate::refusal::{Refusal, failed};
use keyward_base::keys::section;

/// Long enough for programs that unlock a vault.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

section! {
    /// Environment variables of the gateway.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct EnvSource {
        /// The variables that references may name. They are read when the configuration is read.
        #[key("list of text", required)]
        pub names: Vec<String>,
    }
}

section! {
    /// Files of the gateway's machine.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct FileSource {
        /// The absolute path of the folder. A reference is a path below it. Only the gateway's user may be able to read the
        /// files.
        #[key("path", required)]
        pub folder: String,
    }
}

section! {
    /// A program of the gateway's machine.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct CommandSource {
        /// The program and its arguments. The reference replaces the argument `{ref}`, or follows the others. No shell reads
        /// them. The program's environment has PATH, HOME and the source's credentials.
        #[key("list of text", required)]
        pub run: Vec<String>,
        /// How long it may run, up to 1m. Default: 10s.
        #[key("time")]
        #[serde(default, with = "given::optional_duration", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        pub timeout: Option<Duration>,
    }
}

section! {
    /// The keyring of a desktop session, over D-Bus: GNOME Keyring, KWallet, KeePassXC. A reference is the attributes of one
    /// item, `ATTRIBUTE=VALUE,ATTRIBUTE=VALUE`, also with `#MEMBER` of a value in JSON.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct KeychainSource {
        /// The socket of the session's bus, as in `DBUS_SESSION_BUS_ADDRESS`. Default: `unix:path=/run/user/UID/bus` with the
        /// id of the gateway's user.
        #[key("text")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub address: Option<String>,
    }
}

impl EnvSource {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let is_variable = |name: &String| {
            let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            !name.is_empty() && name.bytes().all(is_word) && !name.as_bytes()[0].is_ascii_digit()
        };
        let names = !self.names.is_empty() && self.names.iter().all(is_variable);
        failed([Refusal::unless(names, "env.names", "must be names of environment variables")])
    }
}

impl FileSource {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let is_absolute = Path::new(&self.folder).is_absolute();
        failed([Refusal::unless(is_absolute, "file.folder", "must be an absolute path")])
    }
}

impl CommandSource {
    /// How long it may run.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(10))
    }

    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let program = self.run.first().is_some_and(|program| {
            !program.is_empty() && (Path::new(program).is_absolute() || !program.contains('/'))
        });
        let timeout = !self.timeout().is_zero() && self.timeout() <= TIMEOUT_MAX;
        failed([
            Refusal::unless(
                program,
                "command.run",
                "must begin with a program's name or absolute path",
            ),
            Refusal::unless(timeout, "command.timeout", "must be more than 0s and up to 1m"),
        ])
    }
}

impl KeychainSource {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        // Other transports reach other machines, or start programs.
        let is_socket = |address: &String| {
            let socket = address.strip_prefix("unix:").unwrap_or_default();
            let path = socket.strip_prefix("path=").is_some_and(|path| path.starts_with('/'));
            (path || socket.starts_with("abstract=")) && !address.contains(';')
        };
        let rule = "must be a socket of this machine: `unix:path=/…` or `unix:abstract=…`";
        let address = self.address.as_ref().is_none_or(is_socket);
        failed([Refusal::unless(address, "keychain.address", rule)])
    }
}

/// Credentials of a kind: those that it requires, and those that it also takes.
#[derive(Clone, Copy, Debug)]
pub struct CredentialNames {
    /// All of them must be given.
    pub required: &'static [&'static str],
    /// These may be given; `None`: any may.
    pub optional: Option<&'static [&'static str]>,
}

impl CredentialNames {
    /// Why credentials of these names are refused.
    pub fn refusal<'a>(&self, given: impl Iterator<Item = &'a str> + Clone) -> Option<Refusal> {
        let missing = self.required.iter().find(|name| !given.clone().any(|it| it == **name));
        if let Some(name) = missing {
            let rule = format!("must have `{name}`");
            let hint = format!("this kind takes {}", self.required.join(" and "));
            return Some(Refusal::new("credentials", rule).hint(hint));
        }
        let optional = self.optional?;
        let unknown = |name: &&str| !self.required.contains(name) && !optional.contains(name);
        let unknown = given.clone().find(unknown)?;
        let known = [self.required, optional].concat().join(", ");
        let rule = format!("must not have `{unknown}`");
        Some(Refusal::new("credentials", rule).hint(match known.is_empty() {
            true => "this kind takes none".to_owned(),
            false => format!("this kind takes {known}"),
        }))
    }
}
