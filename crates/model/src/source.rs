//! Secret sources: where values of connections' fields are kept outside of Keyward. A field names a source and a
//! reference in it; the vault fetches the value, and stores it sealed until the next one.
//!
//! Sources that read the gateway's own machine can be declared only in the configuration file: an admin of an organisation
//! must not read the gateway's files or run its programs.

mod local;
mod remote;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use keyward_base::id::SourceId;
use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use local::{CommandSource, CredentialNames, EnvSource, FileSource, KeychainSource};
pub use remote::{
    AwsService, AwsSource, AzureSource, BitwardenRegion, BitwardenSource, DopplerSource, GcpSource,
    InfisicalSource, OnePasswordSource, VaultLogin, VaultSource,
};

use super::refusal::{Refusal, failed};
use super::resource::{Kind, Resource};
use super::secret_text::SecretFields;
use super::{given, name};

/// 5 minutes: a changed value is used soon, and a source is asked rarely.
const TTL: Duration = Duration::from_secs(300);

/// 1 s: a shorter time would ask the source with nearly every request.
const TTL_MIN: Duration = Duration::from_secs(1);

/// 1 hour: most outages of a source are shorter.
const KEEP: Duration = Duration::from_secs(3_600);

/// 30 days: an older value is no longer the source's.
const KEEP_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Secret sources.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {}

section! {
    /// What a person gives. Exactly one of the kinds.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct SourceSpec {
        /// Unique. 1 to 64 letters, digits or `-_.`.
        #[key("text", required)]
        #[serde(default)]
        pub name: String,
        /// How long a fetched value is used before it is fetched again. While it is used, it is fetched before this time
        /// has passed. Default: 5m.
        #[key("time")]
        #[serde(default, with = "given::optional_duration", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        pub ttl: Option<Duration>,
        /// How long the last value is used after `ttl` while the source cannot be asked. Then requests are refused with 503
        /// `source_unavailable`. Default: 1h, at most 30d.
        #[key("time")]
        #[serde(default, with = "given::optional_duration", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        pub keep: Option<Duration>,
        /// Environment variables of the gateway. Only in the configuration file.
        #[key(map of EnvSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub env: Option<EnvSource>,
        /// Files of the gateway's machine, read again when they change. Only in the configuration file.
        #[key(map of FileSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub file: Option<FileSource>,
        /// A program of the gateway's machine, which prints the value. Only in the configuration file.
        #[key(map of CommandSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub command: Option<CommandSource>,
        /// The keyring of a desktop session (Secret Service), such as GNOME Keyring. Only in the configuration file.
        #[key(map of KeychainSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub keychain: Option<KeychainSource>,
        /// HashiCorp Vault or OpenBao: key/value engine.
        #[key(map of VaultSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub vault: Option<VaultSource>,
        /// AWS Secrets Manager or the Parameter Store of AWS Systems Manager.
        #[key(map of AwsSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub aws: Option<AwsSource>,
        /// Google Secret Manager.
        #[key(map of GcpSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub gcp: Option<GcpSource>,
        /// Azure Key Vault.
        #[key(map of AzureSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub azure: Option<AzureSource>,
        /// 1Password Connect. For the `op` program, use `command`.
        #[key(map of OnePasswordSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub onepassword: Option<OnePasswordSource>,
        /// Bitwarden Secrets Manager, by the access token of a machine account. Values are decrypted here.
        #[key(map of BitwardenSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub bitwarden: Option<BitwardenSource>,
        /// Infisical.
        #[key(map of InfisicalSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub infisical: Option<InfisicalSource>,
        /// Doppler.
        #[key(map of DopplerSource)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub doppler: Option<DopplerSource>,
    }
}

section! {
    /// What a request may give beside the spec. Sealed at once and never shown.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    pub struct SourceOptions {
        /// The gateway's credentials at the source, such as `token`.
        #[key("map of text to text", "{}")]
        pub credentials: Option<SecretFields>,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SourceFacts {
    /// Names of its credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
    /// When its credentials were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Timestamp>,
}

/// What is shown beside the spec.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SourceShown {
    /// The key of its kind, such as `vault`.
    pub kind: String,
    /// Names of its credentials.
    pub credentials: Vec<String>,
    /// Connections with fields in it.
    pub connections: Vec<String>,
    /// Apps with secrets in it.
    #[serde(default)]
    pub apps: Vec<String>,
    /// When a value was last fetched since the gateway began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<Timestamp>,
    /// Until then its last values are used, if it gives no newer ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Timestamp>,
    /// Failures since then; absent if the last fetch succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<SourceFailures>,
}

/// Consecutive failures of a source.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SourceFailures {
    /// The time of the first.
    pub since: Timestamp,
    /// Their number.
    pub count: u32,
    /// The last one, in words.
    pub message: String,
}

/// The fetched values of a connection.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct FetchedView {
    /// When they were fetched.
    pub at: Timestamp,
    /// When they are fetched again at the latest, if they are used.
    pub until: Timestamp,
    /// Until then they are used while the source cannot be asked.
    pub kept_until: Timestamp,
}

/// The kind of a source, with its settings.
#[derive(Clone, Copy, Debug)]
pub enum SourceKind<'a> {
    /// See [`SourceSpec::env`].
    Env(&'a EnvSource),
    /// See [`SourceSpec::file`].
    File(&'a FileSource),
    /// See [`SourceSpec::command`].
    Command(&'a CommandSource),
    /// See [`SourceSpec::keychain`].
    Keychain(&'a KeychainSource),
    /// See [`SourceSpec::vault`].
    Vault(&'a VaultSource),
    /// See [`SourceSpec::aws`].
    Aws(&'a AwsSource),
    /// See [`SourceSpec::gcp`].
    Gcp(&'a GcpSource),
    /// See [`SourceSpec::azure`].
    Azure(&'a AzureSource),
    /// See [`SourceSpec::onepassword`].
    OnePassword(&'a OnePasswordSource),
    /// See [`SourceSpec::bitwarden`].
    Bitwarden(&'a BitwardenSource),
    /// See [`SourceSpec::infisical`].
    Infisical(&'a InfisicalSource),
    /// See [`SourceSpec::doppler`].
    Doppler(&'a DopplerSource),
}

impl Resource for Source {
    type Id = SourceId;
    type Spec = SourceSpec;
    type CreateOptions = SourceOptions;
    type ChangeOptions = SourceOptions;
    type Facts = SourceFacts;
    type Shown = SourceShown;

    const KIND: Kind = Kind { one: "source", article: "a source", many: "sources", max: 100 };
    const FIXED: &[&str] = &["name"];
    const DATED: bool = true;
    /// `version` is that of Vault's key-value engine.
    const VERSIONED: bool = false;

    fn name(spec: &SourceSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &SourceSpec) -> Vec<Refusal> {
        let mut found = failed([
            name::plain(&spec.name),
            Refusal::unless(spec.ttl() >= TTL_MIN, "ttl", "must be a second or more"),
            Refusal::unless(spec.keep() <= KEEP_MAX, "keep", "must be 30d or less"),
        ]);
        match spec.kinds().as_slice() {
            [kind] => found.extend(kind.refusals()),
            _ => {
                let hint = "such as `vault: { address: https://vault.example.com }`";
                let rule = "must have exactly one kind beside it: env, file, command, keychain, vault, aws, gcp, \
                            azure, onepassword, bitwarden, infisical or doppler";
                found.push(Refusal::new("name", rule).hint(hint));
            }
        }
        found
    }
}

impl SourceSpec {
    /// How long a value is used before it is fetched again.
    pub fn ttl(&self) -> Duration {
        self.ttl.unwrap_or(TTL)
    }

    /// How long the last value is used after [`SourceSpec::ttl`].
    pub fn keep(&self) -> Duration {
        self.keep.unwrap_or(KEEP)
    }

    /// Its kind; a stored spec has exactly one.
    pub fn kind(&self) -> Option<SourceKind<'_>> {
        self.kinds().into_iter().next()
    }

    fn kinds(&self) -> Vec<SourceKind<'_>> {
        let all = [
            self.env.as_ref().map(SourceKind::Env),
            self.file.as_ref().map(SourceKind::File),
            self.command.as_ref().map(SourceKind::Command),
            self.keychain.as_ref().map(SourceKind::Keychain),
            self.vault.as_ref().map(SourceKind::Vault),
            self.aws.as_ref().map(SourceKind::Aws),
            self.gcp.as_ref().map(SourceKind::Gcp),
            self.azure.as_ref().map(SourceKind::Azure),
            self.onepassword.as_ref().map(SourceKind::OnePassword),
            self.bitwarden.as_ref().map(SourceKind::Bitwarden),
            self.infisical.as_ref().map(SourceKind::Infisical),
            self.doppler.as_ref().map(SourceKind::Doppler),
        ];
        all.into_iter().flatten().collect()
    }

    /// Whether it reads the gateway's own machine, so that only the configuration file may declare it.
    pub fn is_local(&self) -> bool {
        match self.kind() {
            Some(
                SourceKind::Env(_)
                | SourceKind::File(_)
                | SourceKind::Command(_)
                | SourceKind::Keychain(_),
            ) => true,
            // The login sends the token of the gateway's own pod.
            Some(SourceKind::Vault(vault)) => vault.login == VaultLogin::Kubernetes,
            _ => false,
        }
    }

    /// The credentials that it takes.
    pub fn credential_names(&self) -> CredentialNames {
        let (required, optional): (&[_], Option<&[_]>) = match self.kind() {
            // Values and environment variables by their names.
            Some(SourceKind::Env(_) | SourceKind::Command(_)) => (&[], None),
            Some(SourceKind::Vault(vault)) => (vault.login.credentials(), Some(&[])),
            Some(SourceKind::Aws(_)) => {
                (&["access_key_id", "secret_access_key"], Some(&["session_token"]))
            }
            Some(SourceKind::Azure(_) | SourceKind::Infisical(_)) => {
                (&["client_id", "client_secret"], Some(&[]))
            }
            Some(
                SourceKind::OnePassword(_) | SourceKind::Bitwarden(_) | SourceKind::Doppler(_),
            ) => (&["token"], Some(&[])),
            Some(SourceKind::File(_) | SourceKind::Keychain(_) | SourceKind::Gcp(_)) | None => {
                (&[], Some(&[]))
            }
        };
        CredentialNames { required, optional }
    }
}

impl SourceKind<'_> {
    /// The key of the spec.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Env(_) => "env",
            Self::File(_) => "file",
            Self::Command(_) => "command",
            Self::Keychain(_) => "keychain",
            Self::Vault(_) => "vault",
            Self::Aws(_) => "aws",
            Self::Gcp(_) => "gcp",
            Self::Azure(_) => "azure",
            Self::OnePassword(_) => "onepassword",
            Self::Bitwarden(_) => "bitwarden",
            Self::Infisical(_) => "infisical",
            Self::Doppler(_) => "doppler",
        }
    }

    fn refusals(&self) -> Vec<Refusal> {
        match self {
            Self::Env(env) => env.refusals(),
            Self::File(file) => file.refusals(),
            Self::Command(command) => command.refusals(),
            Self::Keychain(keychain) => keychain.refusals(),
            Self::Vault(vault) => vault.refusals(),
            Self::Aws(aws) => aws.refusals(),
            Self::Gcp(gcp) => gcp.refusals(),
            Self::Azure(azure) => azure.refusals(),
            Self::OnePassword(onepassword) => onepassword.refusals(),
            Self::Bitwarden(bitwarden) => bitwarden.refusals(),
            Self::Infisical(infisical) => infisical.refusals(),
            Self::Doppler(doppler) => doppler.refusals(),
        }
    }
}
