//! The row of a sealed grant: its bytes, the provider and hosts that they may be sent to, and the verdict on a broken
//! grant. All of it is sealed together, so that an editor of the database cannot point a secret at another provider.

use std::collections::BTreeMap;
use std::fmt::Display;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use keyward_base::id::{FlowId, OrgId};
use keyward_state::crypto::envelope::{EnvelopeError, Place};
use keyward_state::crypto::keyring::{Keyring, Sealing};
use keyward_state::directory::{BrokenReason, ConnectionRecord, RotationState};
use keyward_state::store::{Row, Table, Version};

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

/// Why a grant is not used any more, until a person acts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Verdict {
    /// Why.
    pub reason: BrokenReason,
    /// The provider's own code, cut and cleaned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What the client was refused with, as a hash: it is tried again where that changes. Absent in other
    /// verdicts, and in those of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// A refused client is tried again from here on, when a request wants it. Absent in other verdicts, and
    /// in those of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Timestamp>,
    /// How often it has been tried again in vain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
}

/// What stands before the grant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Header {
    /// What the grant was given for.
    #[serde(flatten)]
    pub purpose: Purpose,
    /// Absent in rows of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<Verdict>,
    /// SHA-256, hex, of the fields that the tokens began with: a file that still names those does not
    /// take newer ones away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// Only a test may use it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untested: bool,
    /// When the secret was given and when it ends, once it has been rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dates: Option<Dates>,
    /// The consent that the tokens began with, where it was one: it is stored once, whatever crashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<FlowId>,
    /// Its client was refused, and that has changed since: the next refresh tells.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_trial: bool,
    /// Another grant stands after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<SecondGrant>,
}

/// When a secret was given and when it ends, as far as anybody said.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dates {
    /// `None`: with its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Timestamp>,
    /// As its owner said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// What is known of the second grant of a row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SecondGrant {
    /// What it is.
    pub state: RotationState,
    /// Since when.
    pub since: Timestamp,
    /// It is wiped then.
    pub until: Timestamp,
    /// As [`Header::given`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// As [`Header::dates`].
    #[serde(default)]
    pub dates: Dates,
    /// Bytes of the first grant, after which it begins.
    pub at: usize,
}

/// What is to be sealed as a row.
#[derive(Clone)]
pub struct NewRow {
    /// What stands before the grants.
    pub header: Header,
    /// The grant's bytes; behind them those of the second one, where there is one.
    pub grants: Zeroizing<Vec<u8>>,
}

/// The row that something is sealed for.
pub struct RowPlace<'a> {
    /// The connection's or the app's org.
    pub org: &'a OrgId,
    /// The id of the connection or the app.
    pub id: &'a (dyn Display + Sync),
    /// The version that the row will have.
    pub version: Version,
}

/// An opened row.
pub struct OpenedGrant {
    /// What stands before the grants.
    pub header: Header,
    /// The grant's bytes.
    pub grant: Zeroizing<Vec<u8>>,
    /// Those of the second one.
    pub other: Option<Zeroizing<Vec<u8>>>,
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

impl Verdict {
    /// Without anything about another try.
    pub fn new(reason: BrokenReason, detail: Option<String>) -> Self {
        Self { reason, detail, asked: None, again: None, tries: 0 }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Header {
    /// Of a grant that works, as far as is known.
    pub fn of(connection: &ConnectionRecord) -> Self {
        let purpose = Purpose::of(connection);
        Self {
            purpose,
            broken: None,
            given: None,
            consent: None,
            untested: false,
            dates: None,
            on_trial: false,
            beside: None,
        }
    }

    /// With another grant after the first: what is sealed.
    pub fn beside(mut self, grant: &[u8], other: Option<(SecondGrant, &[u8])>) -> NewRow {
        let length = grant.len() + other.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let mut whole = Zeroizing::new(Vec::with_capacity(length));
        whole.extend_from_slice(grant);
        self.beside = other.map(|(beside, bytes)| {
            whole.extend_from_slice(bytes);
            SecondGrant { at: grant.len(), ..beside }
        });
        NewRow { header: self, grants: whole }
    }
}

/// The row's key: `org_…/con_…`, or `org_…/app_…`.
pub fn key(org: &OrgId, id: &dyn Display) -> String {
    format!("{org}/{id}")
}

/// Seals for the row version that will be written:
/// `row version (u64) ‖ header length (u32) ‖ header (JSON) ‖ grant`, numbers big endian. An older
/// value that is put back under the present version is noticed.
///
/// # Errors
/// When the grant is too long to seal.
///
/// # Panics
/// Never: a header serialises and is far below 4 GiB.
pub fn seal(
    sealing: &Sealing,
    place: &RowPlace<'_>,
    header: &impl Serialize,
    grant: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    let header = serde_json::to_vec(header).expect("a header serialises");
    let length = u32::try_from(header.len()).expect("a header is short");
    let mut plain = Zeroizing::new(Vec::with_capacity(8 + 4 + header.len() + grant.len()));
    plain.extend_from_slice(&place.version.0.to_be_bytes());
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(&header);
    plain.extend_from_slice(grant);
    let key = key(place.org, place.id);
    sealing.seal(&Place { org: place.org, table: Table::Grants.name(), key: &key }, &plain)
}

/// Opens a row and checks that it was sealed for `expected`, and as this version of the row.
///
/// # Errors
/// When it does not open, is malformed, an older one, or was sealed for another purpose.
pub fn open(
    keyring: &Keyring,
    connection: &ConnectionRecord,
    expected: &Purpose,
    row: &Row,
) -> Result<OpenedGrant, RecordError> {
    let (header, grants): (Header, _) = unsealed(keyring, &connection.org, &connection.id, row)?;
    if header.purpose != *expected {
        return Err(RecordError::Purpose);
    }
    let Some(at) = header.beside.as_ref().map(|beside| beside.at) else {
        return Ok(OpenedGrant { header, grant: grants, other: None });
    };
    let (grant, other) = grants.split_at_checked(at).ok_or(RecordError::Malformed)?;
    let (grant, other) = (Zeroizing::new(grant.to_vec()), Some(Zeroizing::new(other.to_vec())));
    Ok(OpenedGrant { header, grant, other })
}

/// Header and grant of a row that was sealed as this version of it.
///
/// # Errors
/// When it does not open, is malformed, or an older one.
pub fn unsealed<H: DeserializeOwned>(
    keyring: &Keyring,
    org: &OrgId,
    id: &dyn Display,
    row: &Row,
) -> Result<(H, Zeroizing<Vec<u8>>), RecordError> {
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
    let (header, grant) = rest.split_at_checked(length).ok_or(RecordError::Malformed)?;
    let header = serde_json::from_slice(header).map_err(|_| RecordError::Malformed)?;
    Ok((header, Zeroizing::new(grant.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::id::ConnectionId;
    use keyward_base::settings::Settings;
    use keyward_state::directory::{About, ConnectionState, ManagedBy, SecretFacts, Visibility};

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
            discovered: None,
            app: None,
            scopes: Vec::new(),
            granted: Vec::new(),
            account: None,
            account_id: None,
            ends: None,
            about: About::default(),
            secret: SecretFacts::default(),
            owner: None,
            visibility: Visibility::Shared,
            state: ConnectionState::Active,
            managed_by: ManagedBy::Store,
            created: Timestamp::UNIX_EPOCH,
            updated: Timestamp::UNIX_EPOCH,
        }
    }

    async fn sealed(keyring: &Keyring, connection: &ConnectionRecord, version: u64) -> Vec<u8> {
        let (org, id, version) = (&connection.org, &connection.id, Version(version));
        let sealing = keyring.sealing().await;
        seal(&sealing, &RowPlace { org, id, version }, &Header::of(connection), b"grant").unwrap()
    }

    fn opened(
        keyring: &Keyring,
        connection: &ConnectionRecord,
        (value, version): (Vec<u8>, u64),
    ) -> Result<Vec<u8>, RecordError> {
        let key = key(&connection.org, &connection.id);
        let row = Row { key, value, version: Version(version) };
        open(keyring, connection, &Purpose::of(connection), &row)
            .map(|opened| opened.grant.to_vec())
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
