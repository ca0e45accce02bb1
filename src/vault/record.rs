//! A sealed grant as a row: the grant's bytes together with what decides where they may go, so that
//! an editor of the database cannot point a secret at another provider.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::id::OrgId;
use crate::crypto::envelope::{EnvelopeError, Place};
use crate::crypto::keyring::{Keyring, Sealing};
use crate::directory::ConnectionRecord;
use crate::store::{Row, Table, Version};

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
    /// An older value under a newer version.
    #[error("the grant record was put back to an older one: restore it from a backup")]
    RolledBack,
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

/// The row's key: `org_…/con_…`, or `org_…/app_…`.
pub fn key(org: &OrgId, id: &dyn Display) -> String {
    format!("{org}/{id}")
}

/// Seals for the row version that will be written:
/// `row version (u64) ‖ purpose length (u32) ‖ purpose (JSON) ‖ grant`, numbers big endian. An older
/// value that is put back under the present version is noticed.
///
/// # Errors
/// When the grant is too long to seal.
///
/// # Panics
/// Never: a purpose serialises and is far below 4 GiB.
pub fn seal(
    sealing: &Sealing,
    (org, id): (&OrgId, &dyn Display),
    version: Version,
    (purpose, grant): (&impl Serialize, &[u8]),
) -> Result<Vec<u8>, EnvelopeError> {
    let purpose = serde_json::to_vec(purpose).expect("a purpose serialises");
    let length = u32::try_from(purpose.len()).expect("a purpose is short");
    let mut plain = Zeroizing::new(Vec::with_capacity(8 + 4 + purpose.len() + grant.len()));
    plain.extend_from_slice(&version.0.to_be_bytes());
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(&purpose);
    plain.extend_from_slice(grant);
    let key = key(org, id);
    sealing.seal(&Place { org, table: Table::Grants.name(), key: &key }, &plain)
}

/// Opens a row and checks that it was sealed for `expected`, and as this version of the row.
///
/// # Errors
/// When it does not open, is malformed, an older one, or was sealed for another purpose.
pub fn open(
    keyring: &Keyring,
    (org, id): (&OrgId, &dyn Display),
    expected: &(impl DeserializeOwned + PartialEq),
    row: &Row,
) -> Result<Zeroizing<Vec<u8>>, RecordError> {
    let key = key(org, id);
    let place = Place { org, table: Table::Grants.name(), key: &key };
    let plain = keyring.open(&place, &row.value)?;
    let (version, rest) = plain.split_first_chunk::<8>().ok_or(RecordError::Malformed)?;
    if u64::from_be_bytes(*version) != row.version.0 {
        return Err(RecordError::RolledBack);
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(RecordError::Malformed)?;
    let length =
        usize::try_from(u32::from_be_bytes(*length)).map_err(|_| RecordError::Malformed)?;
    let (purpose, grant) = rest.split_at_checked(length).ok_or(RecordError::Malformed)?;
    match serde_json::from_slice(purpose).map_err(|_| RecordError::Malformed)? {
        purpose if same(&purpose, expected) => Ok(Zeroizing::new(grant.to_vec())),
        _ => Err(RecordError::Purpose),
    }
}

/// Ties the type of what was read to that of what is expected.
fn same<T: PartialEq>(read: &T, expected: &T) -> bool {
    read == expected
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::base::id::ConnectionId;
    use crate::base::settings::Settings;
    use crate::directory::{ConnectionState, ManagedBy};

    fn connection() -> ConnectionRecord {
        ConnectionRecord {
            id: ConnectionId::random(),
            org: OrgId::default_org(),
            name: "work".into(),
            provider: "acme".into(),
            auth: "key".into(),
            variables: BTreeMap::from([("shop".into(), "mine".into())]),
            environment: None,
            settings: Settings::default(),
            captured: BTreeMap::new(),
            app: None,
            scopes: Vec::new(),
            granted: Vec::new(),
            account: None,
            ends: None,
            state: ConnectionState::Active,
            managed_by: ManagedBy::Store,
            created: Timestamp::UNIX_EPOCH,
            updated: Timestamp::UNIX_EPOCH,
        }
    }

    fn of(connection: &ConnectionRecord) -> (&OrgId, &dyn Display) {
        (&connection.org, &connection.id)
    }

    async fn sealed(keyring: &Keyring, connection: &ConnectionRecord, version: u64) -> Vec<u8> {
        let (purpose, place) = (Purpose::of(connection), of(connection));
        let sealing = keyring.sealing().await;
        seal(&sealing, place, Version(version), (&purpose, b"grant")).unwrap()
    }

    fn opened(
        keyring: &Keyring,
        connection: &ConnectionRecord,
        (value, version): (Vec<u8>, u64),
    ) -> Result<Vec<u8>, RecordError> {
        let key = key(&connection.org, &connection.id);
        let row = Row { key, value, version: Version(version) };
        open(keyring, of(connection), &Purpose::of(connection), &row).map(|plain| plain.to_vec())
    }

    #[tokio::test]
    async fn an_older_grant_under_the_present_version_does_not_open() {
        let (keyring, connection) = (Keyring::ephemeral(), connection());
        let old = sealed(&keyring, &connection, 1).await;
        assert_eq!(opened(&keyring, &connection, (old.clone(), 1)).unwrap(), b"grant");
        let result = opened(&keyring, &connection, (old, 2));
        assert!(matches!(result, Err(RecordError::RolledBack)), "{result:?}");
    }

    #[tokio::test]
    async fn a_grant_does_not_open_for_another_host_provider_or_connection() {
        let (keyring, connection) = (Keyring::ephemeral(), connection());
        let value = sealed(&keyring, &connection, 1).await;
        let value = || (value.clone(), 1);
        let mut other = connection.clone();
        other.variables.insert("shop".into(), "thief".into());
        assert!(matches!(opened(&keyring, &other, value()), Err(RecordError::Purpose)));
        other = ConnectionRecord { provider: "evil".into(), ..connection.clone() };
        assert!(matches!(opened(&keyring, &other, value()), Err(RecordError::Purpose)));
        other = ConnectionRecord { id: ConnectionId::random(), ..connection.clone() };
        assert!(matches!(opened(&keyring, &other, value()), Err(RecordError::Sealed(_))));
        assert!(opened(&Keyring::ephemeral(), &connection, value()).is_err(), "another key");
    }
}
