//! [`AuthKind`]: the kinds of auth methods, with their keys in provider files, default fields and labels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::PATH;
use super::keys::GrantText;
use keyward_base::names::named_enum;

named_enum! {
    /// A kind of auth method.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
    pub enum AuthKind by as_str {
        /// One key in any place.
        ApiKey = "api_key",
        /// `Authorization: Bearer`.
        Bearer = "bearer",
        /// `Authorization: Basic`.
        Basic = "basic",
        /// Several fields in several places.
        Custom = "custom",
        /// OAuth 2.0.
        Oauth2 = "oauth2",
        /// OAuth 1.0a signatures.
        Oauth1 = "oauth1",
        /// AWS Signature Version 4.
        AwsSigv4 = "aws_sigv4",
        /// AWS Signature Version 4 with temporary keys of a role.
        AwsRole = "aws_role",
        /// A service account's key.
        ServiceAccount = "service_account",
        /// A GitHub App's installation token.
        GithubApp = "github_app",
        /// A token signed with the owner's key, without a token endpoint.
        SignedJwt = "signed_jwt",
        /// A session from a login request.
        Session = "session",
        /// Digest access authentication, RFC 7616.
        Digest = "digest",
        /// Signed requests of other schemes.
        Hmac = "hmac",
        /// A client certificate.
        Mtls = "mtls",
        /// A private key that signs logins of an SSH agent's clients.
        SshKey = "ssh_key",
        /// The path of a file or folder on the agent's machine.
        File = "file",
    }
}

impl AuthKind {
    /// Whether a token is minted from the owner's fields instead of injecting them; placements then use the
    /// field `access_token`.
    pub fn mints(self) -> bool {
        matches!(
            self,
            Self::Oauth2
                | Self::ServiceAccount
                | Self::GithubApp
                | Self::SignedJwt
                | Self::Session
                | Self::AwsRole
        )
    }

    /// Whether each request is signed by a scheme of the provider's file.
    pub fn signs(self) -> bool {
        matches!(self, Self::Hmac | Self::Oauth1)
    }

    /// Whether apps may ask a person for consent.
    pub(super) fn asks_people(self) -> bool {
        matches!(self, Self::Oauth2 | Self::Oauth1)
    }

    /// Whether requests carry its credential, or a signature by it.
    pub fn is_of_requests(self) -> bool {
        !matches!(self, Self::SshKey | Self::File)
    }

    /// Whether its secrets are keys or files with several lines.
    pub fn has_documents(self) -> bool {
        matches!(
            self,
            Self::ServiceAccount | Self::GithubApp | Self::SignedJwt | Self::Mtls | Self::SshKey
        )
    }
}

/// Keys allowed for every kind.
pub(super) const COMMON: &[&str] = &[
    "id",
    "kind",
    "label",
    "note",
    "placement",
    "place",
    "placements",
    "fields",
    "key",
    "env",
    "test",
    "tls",
];

/// Keys of kinds with a token endpoint.
const TOKEN: &[&str] = &[
    "token",
    "renew",
    "revoke",
    "scopes",
    "scope_separator",
    "client_auth",
    "token_body",
    "token_params",
    "renew_params",
    "renames",
    "grant_type",
    "refresh",
    "access_ttl",
    "refresh_ttl",
    "token_path",
    "expires_path",
    "expires_format",
    "capture",
    "extra_headers",
    "jwt",
    "issuer",
    "apps_of",
    "says",
    "account",
    "revoke_via",
    "access_page",
    "keep_alive",
    "replay_unsafe",
    "renew_scopes",
];

/// Keys of OAuth in addition to [`TOKEN`].
const CONSENT: &[&str] = &[
    "grant",
    "app_url",
    "app_steps",
    "app_source",
    "authorize",
    "device",
    "introspect",
    "register",
    "push",
    "lengthen",
    "lengthen_params",
    "authorize_params",
    "pkce",
    "callback_capture",
    "userinfo",
    "response_mode",
];

/// Keys of a consent of OAuth 1.0a.
pub(super) const OAUTH1_CONSENT: &[&str] = &[
    "request_token",
    "authorize",
    "token",
    "revoke",
    "unconfirmed_callback",
    "authorize_state",
    "app_steps",
    "app_source",
    "authorize_params",
    "account",
    "capture",
    "callback_capture",
    "access_page",
];

/// Keys of a kind in addition to [`COMMON`].
pub(super) fn keys(kind: AuthKind) -> [&'static [&'static str]; 2] {
    match kind {
        AuthKind::ApiKey
        | AuthKind::Bearer
        | AuthKind::Basic
        | AuthKind::Custom
        | AuthKind::SshKey => [&[], &[]],
        AuthKind::File => [&["file"], &[]],
        AuthKind::Oauth2 => [TOKEN, CONSENT],
        AuthKind::Oauth1 => [&["signature", "app_url"], OAUTH1_CONSENT],
        AuthKind::ServiceAccount | AuthKind::GithubApp | AuthKind::SignedJwt => [TOKEN, &[]],
        AuthKind::Session => [TOKEN, &["login", "renewal"]],
        AuthKind::AwsSigv4 => [&["service", "region", "via", "access_ttl"], &[]],
        AuthKind::AwsRole => [&["service", "region", "says"], &[]],
        AuthKind::Hmac => [&["signature"], &[]],
        AuthKind::Digest | AuthKind::Mtls => [&[], &[]],
    }
}

/// Default fields: name, label, secret, optional.
type UsualFields = &'static [(&'static str, &'static str, bool, bool)];

/// The default fields of a grant type of OAuth.
fn usual_fields_of_grant(grant: GrantText) -> UsualFields {
    match grant {
        GrantText::ClientCredentials => &[],
        GrantText::JwtBearer => {
            &[("private_key", "Private key", true, false), ("subject", "Subject", false, true)]
        }
        GrantText::TokenExchange => &[("subject_token", "Subject token", true, false)],
        _ => &[
            ("refresh_token", "Refresh token", true, true),
            ("access_token", "Access token", true, true),
        ],
    }
}

/// The default fields of a kind.
pub(super) fn usual_fields(kind: AuthKind, grant: GrantText) -> UsualFields {
    match kind {
        AuthKind::Oauth2 => usual_fields_of_grant(grant),
        AuthKind::ApiKey => &[("api_key", "API key", true, false)],
        AuthKind::Bearer => &[("token", "Token", true, false)],
        AuthKind::Basic | AuthKind::Digest | AuthKind::Session => {
            &[("username", "User name", false, false), ("password", "Password", true, false)]
        }
        AuthKind::Custom => &[],
        AuthKind::Oauth1 => &[
            ("consumer_key", "Consumer key", true, false),
            ("consumer_secret", "Consumer secret", true, false),
            ("token", "Access token", true, false),
            ("token_secret", "Access token secret", true, false),
        ],
        AuthKind::AwsSigv4 => &[
            ("access_key_id", "Access key id", true, false),
            ("secret_access_key", "Secret access key", true, false),
            ("session_token", "Session token", true, true),
            ("region", "Region", false, true),
            ("service", "Service", false, true),
        ],
        AuthKind::AwsRole => &[
            ("role_arn", "Role ARN", false, false),
            ("source_access_key_id", "Access key id", true, false),
            ("source_secret_access_key", "Secret access key", true, false),
            ("source_session_token", "Session token", true, true),
            ("external_id", "External id", false, true),
            ("session_name", "Session name", false, true),
            ("duration", "Duration in seconds", false, true),
            ("region", "Region", false, true),
            ("service", "Service", false, true),
        ],
        AuthKind::ServiceAccount => &[
            ("service_account", "Key file", true, false),
            ("subject", "User to act for", false, true),
            ("impersonate", "Service account to act as", false, true),
        ],
        AuthKind::GithubApp => &[
            ("app_id", "App id", false, false),
            ("installation_id", "Installation id", false, false),
            ("private_key", "Private key", true, false),
        ],
        AuthKind::SignedJwt => &[("key", "Key", true, false)],
        AuthKind::Hmac => &[("secret", "Signing secret", true, false)],
        AuthKind::Mtls => &[
            ("client_cert", "Client certificate", true, false),
            ("client_key", "Private key of the certificate", true, false),
            ("ca", "CA of the service", true, true),
        ],
        AuthKind::SshKey => &[
            ("private_key", "Private key", true, false),
            ("passphrase", "Passphrase", true, true),
            ("users", "Accounts at the servers", false, false),
            ("known_hosts", "Host keys, as `ssh-keyscan HOST` prints them", false, false),
            ("forwarding", "Forwarded agents (true or false)", false, true),
        ],
        AuthKind::File => &[(PATH, "Path", false, false)],
    }
}

/// All keys in addition to [`COMMON`], of any kind.
pub(super) const OTHER: &[&[&str]] = &[
    TOKEN,
    CONSENT,
    OAUTH1_CONSENT,
    &["login", "renewal", "service", "region", "via", "signature", "file"],
];

/// The label of a method that declares none.
pub(super) fn usual_label(kind: AuthKind) -> &'static str {
    match kind {
        AuthKind::ApiKey => "API key",
        AuthKind::Bearer => "Token",
        AuthKind::Basic => "User name and password",
        AuthKind::Custom => "Credentials",
        AuthKind::Oauth2 | AuthKind::Oauth1 => "OAuth",
        AuthKind::AwsSigv4 => "AWS access key",
        AuthKind::AwsRole => "AWS role",
        AuthKind::ServiceAccount => "Service account",
        AuthKind::GithubApp => "GitHub App",
        AuthKind::SignedJwt => "Signed token",
        AuthKind::Session => "Session",
        AuthKind::Digest => "Digest",
        AuthKind::Hmac => "Signed requests",
        AuthKind::Mtls => "Client certificate",
        AuthKind::SshKey => "SSH key",
        AuthKind::File => "File",
    }
}
