//! Users: people, what they may do in their organisation, and with what they sign in beside a password: passkeys, and
//! one-time codes (RFC 6238). Their credentials and tokens are in the same row; private parts of passkeys never leave the
//! devices, and the key of codes is shown once.

use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::login::LoginLink;
use super::name;
use super::personal_token::{PersonalToken, PersonalTokenShown};
use super::refusal::{Refusal, failed};
use super::resource::{Kind, NoMembers, Resource};
use keyward_base::id::{PasskeyId, UserId};
use keyward_base::keys::section;
use keyward_base::names::named_enum;
use keyward_base::secret::{PasswordHash, TotpKey};

/// RFC 5321 §4.5.3.1.
const EMAIL_BYTES_MAX: usize = 254;
/// Passkeys of one user.
pub const PASSKEYS_MAX: usize = 20;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum User {}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct UserSpec {
        /// Unique. 1 to 64 letters, digits or `-_.`. Of an end user: the platform's own id, 1 to 128 visible ASCII
        /// characters without ``/ \ : , " ` < >``.
        #[key("text", required)]
        pub name: String,
        /// An address to tell people apart by, unique in the organisation; nothing is sent there.
        #[key("address")]
        #[option("email", "ADDRESS", "their e-mail address", clear "no-email" "remove the address")]
        #[serde(default)]
        pub email: Option<String>,
        /// What the user may do.
        #[key(one of ["admin", "member", "auditor", "end_user"], required)]
        #[option("role", "ROLE", "what they may do", only changes)]
        pub role: Role,
        /// Whether the user's tokens and agents are refused.
        #[key(one of ["true", "false"], "false")]
        #[option("pause", "", "their tokens and those of their agents are no longer valid", clear "resume" "end the pause", only changes)]
        #[serde(default)]
        pub paused: bool,
    }
}

named_enum! {
    /// What a person may do in their organisation.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum Role by as_str {
        /// Everything in it.
        Admin = "admin",
        /// What they own; what is shared is theirs to use.
        Member = "member",
        /// To read everything, to change nothing.
        Auditor = "auditor",
        /// Nothing in the API: a customer of the platform, who owns connections that agents use in sessions.
        EndUser = "end_user",
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct UserFacts {
    #[serde(default)]
    pub tokens: Vec<PersonalToken>,
    /// Links that sign the user in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub login_links: Vec<LoginLink>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordHash>,
    /// The networks that the user signed in from with it, the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpAddr>,
    /// The one-time codes that are required beside the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<Totp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passkeys: Vec<Passkey>,
    /// A key of codes that is not in force yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp_new: Option<NewTotp>,
    /// The account at an identity provider that the user signs in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// An account at an identity provider (OpenID Connect Core §2: only both together identify a person).
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Identity {
    /// The provider's issuer identifier.
    pub issuer: String,
    /// The account's identifier there.
    pub subject: String,
}

/// What is shown of a user.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct UserShown {
    /// The user's tokens, without their text.
    pub tokens: Vec<PersonalTokenShown>,
    /// What the user can sign in with, beside links.
    #[serde(default)]
    pub sign_in: SignInMethods,
    /// The account at an identity provider that the user signs in with. Its groups decide the user's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// What a user can sign in with, beside links.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SignInMethods {
    /// Whether the user has a password.
    pub password: bool,
    /// Whether a one-time code is required beside the password.
    #[serde(default)]
    pub totp: bool,
    /// The passkeys.
    #[serde(default)]
    pub passkeys: Vec<PasskeyShown>,
}

impl Resource for User {
    type Id = UserId;
    type Spec = UserSpec;
    type CreateOptions = NoMembers;
    type ChangeOptions = NoMembers;
    type Facts = UserFacts;
    type Shown = UserShown;

    const KIND: Kind = Kind { one: "user", article: "a user", many: "users", max: usize::MAX };
    const FIXED: &[&str] = &["name"];
    const DATED: bool = true;
    const DECLARABLE: bool = false;

    fn name(spec: &UserSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &UserSpec) -> Vec<Refusal> {
        let rule = "must be `name@host`, without blanks and up to 254 characters";
        let has_address = spec.email.as_deref().is_none_or(is_email);
        let name = match spec.role {
            Role::EndUser => name::external(&spec.name),
            Role::Admin | Role::Member | Role::Auditor => name::plain(&spec.name),
        };
        failed([name, Refusal::unless(has_address, "email", rule)])
    }

    /// Omits a missing address in rows; answers have `null`.
    fn to_row(row: &mut Map<String, Value>) {
        if row.get("email").is_some_and(Value::is_null) {
            row.remove("email");
        }
    }
}

impl UserSpec {
    pub fn may_sign_in(&self) -> bool {
        self.role != Role::EndUser && !self.paused
    }

    /// Whether the connections of this user may be used in sessions.
    pub fn has_sessions(&self) -> bool {
        self.role == Role::EndUser && !self.paused
    }
}

fn is_email(text: &str) -> bool {
    let plain = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    let parts = text.split_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty());
    text.len() <= EMAIL_BYTES_MAX && plain && parts.is_some_and(|(_, host)| !host.contains('@'))
}

/// The codes that sign a user in beside the password.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Totp {
    pub key: TotpKey,
    /// The time step of the code that was used last: it and those before it are refused (RFC 6238 §5.2).
    pub last_step: u64,
}

/// A key that no code has confirmed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NewTotp {
    pub key: TotpKey,
    /// Until when it can be confirmed.
    pub expires: Timestamp,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Passkey {
    /// Its id in the API.
    pub id: PasskeyId,
    /// What the user calls it.
    pub name: String,
    /// The id of the credential, base 64 for URLs.
    pub credential: String,
    /// The number of its algorithm, in the registry of COSE.
    pub algorithm: i32,
    /// SubjectPublicKeyInfo, base 64 for URLs.
    pub public_key: String,
    /// How many signatures its authenticator counted; 0: it does not count.
    pub count: u32,
    /// When it was registered.
    pub created: Timestamp,
    /// When it last signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}

/// A passkey as the API answers with it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PasskeyShown {
    /// `pky_…`
    pub id: PasskeyId,
    /// What the user calls it.
    pub name: String,
    /// When it was registered.
    pub created: Timestamp,
    /// When it last signed in.
    #[serde(default)]
    pub last_used: Option<Timestamp>,
}

impl Passkey {
    /// Without its key.
    pub fn shown(&self) -> PasskeyShown {
        let Self { id, name, created, last_used, .. } = self.clone();
        PasskeyShown { id, name, created, last_used }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_email_address_is_refused() {
        for bad in ["ann", "@a.test", "ann@", "a b@a.test", "a@b@c", "", &"a@".repeat(200)] {
            assert!(!is_email(bad), "{bad}");
        }
        assert!(is_email("Ann@a.test"));
    }
}
