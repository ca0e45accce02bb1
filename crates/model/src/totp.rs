//! One-time codes (RFC 6238) as a second step of a sign-in with a password. They are in their user's row; the key is
//! shown once.

use jiff::Timestamp;
use keyward_base::secret::TotpKey;
use serde::{Deserialize, Serialize};

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
