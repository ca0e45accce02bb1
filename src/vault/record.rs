//! A sealed grant as a row: the grant's bytes together with what decides where they may go, so that
//! an editor of the database cannot point a secret at another provider (SECURITY CR4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::id::{ConnectionId, OrgId};
use crate::crypto::envelope::{EnvelopeError, Place};
use crate::crypto::keyring::Keyring;
use crate::directory::ConnectionRecord;
use crate::store::Table;

/// What the grant was given for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Purpose {
    /// The provider's id.
    pub provider: String,
    /// The auth method's id.
    pub auth: String,
    /// Variables of the provider's hosts.
    pub variables: BTreeMap<String, String>,
}

/// Why a grant's row cannot be used. Names no content.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It does not open.
    #[error(transparent)]
    Sealed(#[from] EnvelopeError),
    /// It opens but is no grant record.
    #[error("the grant record is malformed")]
    Malformed,
    /// Its purpose is not the connection's.
    #[error("the grant was given for another provider or host than the connection names")]
    Purpose,
}

impl Purpose {
    /// What the connection says.
    pub fn of(connection: &ConnectionRecord) -> Self {
        Self {
            provider: connection.provider.clone(),
            auth: connection.auth.clone(),
            variables: connection.variables.clone(),
        }
    }
}

/// The row's key: `org_…/con_…`.
pub fn key(org: &OrgId, connection: &ConnectionId) -> String {
    format!("{org}/{connection}")
}

/// Seals: `purpose length (u32, big endian) ‖ purpose (JSON) ‖ grant`.
///
/// # Errors
/// When the grant is too long to seal.
///
/// # Panics
/// Never: a purpose serialises and is far below 4 GiB.
pub fn seal(
    keyring: &Keyring,
    org: &OrgId,
    connection: &ConnectionId,
    (purpose, grant): (&Purpose, &[u8]),
) -> Result<Vec<u8>, EnvelopeError> {
    let purpose = serde_json::to_vec(purpose).expect("a purpose serialises");
    let length = u32::try_from(purpose.len()).expect("a purpose is short");
    let mut plain = Zeroizing::new(Vec::with_capacity(4 + purpose.len() + grant.len()));
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(&purpose);
    plain.extend_from_slice(grant);
    let key = key(org, connection);
    keyring.seal(&Place { org, table: Table::Grants.name(), key: &key }, &plain)
}

/// Opens a row and checks that it was sealed for `expected`.
///
/// # Errors
/// When it does not open, is malformed, or was sealed for another purpose.
pub fn open(
    keyring: &Keyring,
    connection: &ConnectionRecord,
    expected: &Purpose,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, RecordError> {
    let key = key(&connection.org, &connection.id);
    let place = Place { org: &connection.org, table: Table::Grants.name(), key: &key };
    let plain = keyring.open(&place, sealed)?;
    let (length, rest) = plain.split_first_chunk::<4>().ok_or(RecordError::Malformed)?;
    let length =
        usize::try_from(u32::from_be_bytes(*length)).map_err(|_| RecordError::Malformed)?;
    let (purpose, grant) = rest.split_at_checked(length).ok_or(RecordError::Malformed)?;
    let purpose: Purpose = serde_json::from_slice(purpose).map_err(|_| RecordError::Malformed)?;
    match purpose == *expected {
        true => Ok(Zeroizing::new(grant.to_vec())),
        false => Err(RecordError::Purpose),
    }
}
