//! Passkeys: keys of a user's devices, with which they sign in without a password. They are in their user's row; the
//! private parts never leave the devices.

use jiff::Timestamp;
use keyward_base::id::PasskeyId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Passkeys of one user.
pub const PASSKEYS_MAX: usize = 20;

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
