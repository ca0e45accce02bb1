//! Sources that are asked over HTTPS. Addresses are https, or http on this machine; private addresses must be in
//! `upstream.allow_private`.

use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refusal::{Refusal, failed};
use crate::webhook::is_postable;
use keyward_base::names::named_enum;

/// How an address is judged.
const ADDRESS: &str = "must be an https URL without a password, or an http URL of this machine";

section! {
    /// HashiCorp Vault or OpenBao. A reference is `PATH#FIELD`; without a field, the path has exactly one.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct VaultSource {
        /// Its address.
        #[key("URL", required)]
        pub address: String,
        /// Where the key/value engine is mounted. Default: `secret`.
        #[key("text")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub mount: Option<String>,
        /// The version of the engine. Default: 2.
        #[key("1 or 2")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub version: Option<u8>,
        /// The namespace, for servers that have some.
        #[key("text")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub namespace: Option<String>,
        /// `token`: by the credential `token`. `approle`: by `role_id` and `secret_id`. `kubernetes`: by the token of the
        /// gateway's pod, only in the configuration file.
        #[key(one of ["token", "approle", "kubernetes"], "token")]
        #[serde(default)]
        pub login: VaultLogin,
        /// Where the method of the login is mounted; default: its name.
        #[key("text")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub login_mount: Option<String>,
        /// The role of a login by `kubernetes`.
        #[key("text")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub role: Option<String>,
        /// The file of the pod's token, for a login by `kubernetes`. Default: where Kubernetes puts it.
        #[key("path")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub token_file: Option<String>,
    }
}

named_enum! {
    /// How Keyward logs in at Vault.
    #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum VaultLogin by as_str {
        /// With a token.
        #[default]
        Token = "token",
        /// With a role id and a secret id.
        Approle = "approle",
        /// With the token of the gateway's pod.
        Kubernetes = "kubernetes",
    }
}

section! {
    /// AWS. A reference is a name or ARN, or `NAME#MEMBER` of a value in JSON.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct AwsSource {
        /// The region, such as `eu-west-1`.
        #[key("text", required)]
        pub region: String,
        /// Which service keeps the values.
        #[key(one of ["secrets_manager", "parameter_store"], "secrets_manager")]
        #[serde(default)]
        pub service: AwsService,
        /// Another address than the service's own in the region.
        #[key("URL")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub address: Option<String>,
    }
}

/// The service of AWS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AwsService {
    /// AWS Secrets Manager.
    #[default]
    SecretsManager,
    /// The Parameter Store of AWS Systems Manager.
    ParameterStore,
}

section! {
    /// Google Secret Manager. A reference is `NAME`, `NAME/versions/VERSION`, each also with `#MEMBER` of a value in JSON.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct GcpSource {
        /// The project.
        #[key("text", required)]
        pub project: String,
        /// The connection whose token is sent, such as one of a service account. Its own fields must not be references.
        #[key("name of a connection", required)]
        pub connection: String,
        /// Another address than `https://secretmanager.googleapis.com`.
        #[key("URL")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub address: Option<String>,
    }
}

section! {
    /// Azure Key Vault. A reference is `NAME` or `NAME/VERSION`, also with `#MEMBER` of a value in JSON.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct AzureSource {
        /// The address of the key vault, such as `https://NAME.vault.azure.net`.
        #[key("URL", required)]
        pub address: String,
        /// The tenant of the application that logs in.
        #[key("text", required)]
        pub tenant: String,
        /// Another address than `https://login.microsoftonline.com`.
        #[key("URL")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub login_address: Option<String>,
    }
}

section! {
    /// 1Password Connect. A reference is `op://VAULT/ITEM/FIELD`, by names or ids.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct OnePasswordSource {
        /// The address of the Connect server.
        #[key("URL", required)]
        pub address: String,
    }
}

section! {
    /// Bitwarden Secrets Manager. A reference is the id of a secret, also with `#MEMBER` of a value in JSON.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct BitwardenSource {
        /// The cloud. For a server of your own, give `api` and `identity`.
        #[key(one of ["us", "eu"], "us")]
        #[serde(default)]
        pub region: BitwardenRegion,
        /// The API of a server of your own, such as `https://bitwarden.example.com/api`.
        #[key("URL")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub api: Option<String>,
        /// Its identity service, such as `https://bitwarden.example.com/identity`.
        #[key("URL")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub identity: Option<String>,
    }
}

/// The cloud of Bitwarden.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BitwardenRegion {
    /// The United States.
    #[default]
    Us,
    /// The European Union.
    Eu,
}

section! {
    /// Infisical, by universal auth. A reference is the name of a secret, or `PATH/NAME`.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct InfisicalSource {
        /// The id of the project.
        #[key("text", required)]
        pub project: String,
        /// The slug of the environment.
        #[key("text", required)]
        pub environment: String,
        /// Another address than `https://app.infisical.com`.
        #[key("URL")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub address: Option<String>,
    }
}

section! {
    /// Doppler. A reference is the name of a secret.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct DopplerSource {
        /// The project; a service token names it itself.
        #[key("text")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub project: Option<String>,
        /// The config; a service token names it itself.
        #[key("text")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub config: Option<String>,
        /// Another address than `https://api.doppler.com`.
        #[key("URL")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub address: Option<String>,
    }
}

impl VaultLogin {
    /// The credentials that it needs.
    pub(super) fn credentials(self) -> &'static [&'static str] {
        match self {
            Self::Token => &["token"],
            Self::Approle => &["role_id", "secret_id"],
            Self::Kubernetes => &[],
        }
    }
}

impl VaultSource {
    /// The version of the engine.
    pub fn version(&self) -> u8 {
        self.version.unwrap_or(2)
    }

    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let version = matches!(self.version(), 1 | 2);
        let role = self.login != VaultLogin::Kubernetes || self.role.is_some();
        let token_file = self.token_file.is_none() || self.login == VaultLogin::Kubernetes;
        let texts = self.mount.iter().chain(&self.login_mount).chain(&self.namespace);
        let mounts = texts.into_iter().all(|text| is_path(text));
        failed([
            Refusal::unless(is_postable(&self.address), "vault.address", ADDRESS),
            Refusal::unless(version, "vault.version", "must be 1 or 2"),
            Refusal::unless(role, "vault.role", "is required for a login by `kubernetes`"),
            Refusal::unless(token_file, "vault.token_file", "is for a login by `kubernetes`"),
            Refusal::unless(
                mounts,
                "vault.mount",
                "must be letters, digits, `-_.` and `/`, like `login_mount` and `namespace`",
            ),
        ])
    }
}

impl AwsSource {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let region = !self.region.is_empty() && self.region.bytes().all(is_word);
        failed([
            Refusal::unless(region, "aws.region", "must be a region, such as `eu-west-1`"),
            Refusal::unless(is_address(self.address.as_deref()), "aws.address", ADDRESS),
        ])
    }
}

impl GcpSource {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let (project, connection) = (is_segment(&self.project), !self.connection.is_empty());
        failed([
            Refusal::unless(project, "gcp.project", "must be the id of a project"),
            Refusal::unless(connection, "gcp.connection", "must name a connection"),
            Refusal::unless(is_address(self.address.as_deref()), "gcp.address", ADDRESS),
        ])
    }
}

impl AzureSource {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let (tenant, login) = (is_segment(&self.tenant), is_address(self.login_address.as_deref()));
        failed([
            Refusal::unless(is_postable(&self.address), "azure.address", ADDRESS),
            Refusal::unless(tenant, "azure.tenant", "must be the id or domain of a tenant"),
            Refusal::unless(login, "azure.login_address", ADDRESS),
        ])
    }
}

impl OnePasswordSource {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        failed([Refusal::unless(is_postable(&self.address), "onepassword.address", ADDRESS)])
    }
}

impl BitwardenSource {
    /// The address of the API.
    pub fn api(&self) -> &str {
        let usual = match self.region {
            BitwardenRegion::Us => "https://api.bitwarden.com",
            BitwardenRegion::Eu => "https://api.bitwarden.eu",
        };
        self.api.as_deref().unwrap_or(usual)
    }

    /// The address of the identity service.
    pub fn identity(&self) -> &str {
        let usual = match self.region {
            BitwardenRegion::Us => "https://identity.bitwarden.com",
            BitwardenRegion::Eu => "https://identity.bitwarden.eu",
        };
        self.identity.as_deref().unwrap_or(usual)
    }

    pub(super) fn refusals(&self) -> Vec<Refusal> {
        // The access token would go to the cloud.
        let both = "must be given as well: `api` and `identity` belong to one server";
        let (api, identity) = (self.api.is_some(), self.identity.is_some());
        failed([
            Refusal::unless(api || !identity, "bitwarden.api", both),
            Refusal::unless(identity || !api, "bitwarden.identity", both),
            Refusal::unless(is_address(self.api.as_deref()), "bitwarden.api", ADDRESS),
            Refusal::unless(is_address(self.identity.as_deref()), "bitwarden.identity", ADDRESS),
        ])
    }
}

impl InfisicalSource {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let (project, environment) = (!self.project.is_empty(), !self.environment.is_empty());
        let slug = "must be the slug of an environment";
        failed([
            Refusal::unless(project, "infisical.project", "must be the id of a project"),
            Refusal::unless(environment, "infisical.environment", slug),
            Refusal::unless(is_address(self.address.as_deref()), "infisical.address", ADDRESS),
        ])
    }
}

impl DopplerSource {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        failed([Refusal::unless(is_address(self.address.as_deref()), "doppler.address", ADDRESS)])
    }
}

fn is_address(address: Option<&str>) -> bool {
    address.is_none_or(is_postable)
}

fn is_segment(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !text.is_empty() && text.bytes().all(is_word)
}

fn is_path(text: &str) -> bool {
    text.split('/').all(|part| is_segment(part) && part != "." && part != "..")
}
