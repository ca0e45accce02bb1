//! The row of a sealed grant: its bytes, the provider and hosts that they may be sent to, and the verdict on a broken
//! grant. All of it is sealed together, so that an editor of the database cannot point a secret at another provider.

use std::collections::BTreeMap;
use std::fmt::Display;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::error::RecordError;
use keyward_base::id::{AppId, FlowId, OrgId};
use keyward_state::crypto::envelope::{EnvelopeError, Place};
use keyward_state::crypto::keyring::{Keyring, Sealing};
use keyward_state::directory::{BrokenReason, ConnectionRecord, RotationState, RowBeside};
use keyward_state::store::{Row, Table, Version};

/// What the grant may be used for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GrantPurpose {
    pub provider: String,
    /// The auth method's id.
    pub auth: String,
    /// Variables of the provider's hosts.
    pub variables: BTreeMap<String, String>,
}

/// Why a grant is not used, until a person acts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GrantVerdict {
    pub reason: BrokenReason,
    /// The provider's error code, truncated and cleaned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The provider's message, truncated, with masked secrets. Not for agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// The end of the access token, which a verdict on the client does not end. Later than any time if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usable_until: Option<Timestamp>,
    /// Fingerprint of the rejected token requests: a change of it allows another try. Absent in other
    /// verdicts, and in those of earlier versions.
    #[serde(rename = "asked", default, skip_serializing_if = "Option::is_none")]
    pub request_fingerprint: Option<String>,
    /// When a rejected client may be tried again by a request. Absent in other verdicts, and in those of
    /// earlier versions.
    #[serde(rename = "again", default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Number of unsuccessful tries.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
}

/// The header before the grant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GrantHeader {
    /// What the grant may be used for.
    #[serde(flatten)]
    pub purpose: GrantPurpose,
    /// Absent in rows of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<GrantVerdict>,
    /// SHA-256 in hex of the fields that the tokens began with: a configuration file with the same fields
    /// does not replace newer tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// Only a test may use the grant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untested: bool,
    /// Dates of the secret, once it was rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dates: Option<Dates>,
    /// The flow that the tokens began with. Its grant is stored once, even after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<FlowId>,
    /// The app of that consent. The record of the connection is written after this row and gets the same app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    /// The client was rejected, and token requests have changed since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_trial: bool,
    /// A person uses the secret although its test was rejected, so the test no longer breaks the connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untestable: bool,
    /// The second grant, which follows the first one.
    #[serde(rename = "beside", default, skip_serializing_if = "Option::is_none")]
    pub second: Option<SecondGrant>,
    /// Members that a newer version has written.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// When a secret was given and when it expires, if known.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dates {
    /// `None`: with its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Timestamp>,
    /// As the owner said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// The origin of a grant. It stays when the grant gets newer tokens.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct GrantOrigin {
    /// As [`GrantHeader::given`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// As [`GrantHeader::consent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<FlowId>,
    /// As [`Dates::rotated`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Timestamp>,
}

/// The second grant of a row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SecondGrant {
    pub state: RotationState,
    /// When it was stored.
    pub since: Timestamp,
    /// When it is wiped.
    pub until: Timestamp,
    /// As [`GrantHeader::given`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// As [`GrantHeader::consent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<FlowId>,
    /// As [`GrantHeader::dates`].
    #[serde(default)]
    pub dates: Dates,
    /// Offset after the first grant.
    pub at: usize,
}

/// The plaintext of a row.
#[derive(Clone)]
pub struct NewRow<H = GrantHeader> {
    pub header: H,
    /// The first grant, followed by the second one if there is one; or the secrets of an app.
    pub grants: Zeroizing<Vec<u8>>,
}

impl<H: Serialize> NewRow<H> {
    /// The row, to be written with its record over the version that was read, or as a new one.
    pub fn beside(&self, over: Option<Version>) -> RowBeside {
        let version = over.unwrap_or_default().next();
        RowBeside::new(Table::Grants, plaintext(version, &self.header, &self.grants), over)
    }
}

/// The row that is sealed.
pub struct RowPlace<'a> {
    /// The org of the connection or app.
    pub org: &'a OrgId,
    /// The id of the connection or the app.
    pub id: &'a (dyn Display + Sync),
    /// The new version of the row.
    pub version: Version,
}

pub struct OpenedGrant {
    pub header: GrantHeader,
    /// The first grant.
    pub grant: Zeroizing<Vec<u8>>,
    /// The second grant.
    pub other: Option<Zeroizing<Vec<u8>>>,
}

impl OpenedGrant {
    /// The grants of an opened row, if they are for this purpose.
    ///
    /// # Errors
    /// When they are for another purpose, or the second one begins after the end.
    pub fn of(
        header: GrantHeader,
        grants: Zeroizing<Vec<u8>>,
        expected: &GrantPurpose,
    ) -> Result<Self, RecordError> {
        if header.purpose != *expected {
            return Err(RecordError::Purpose);
        }
        let Some(at) = header.second.as_ref().map(|second| second.at) else {
            return Ok(Self { header, grant: grants, other: None });
        };
        let (grant, other) = grants.split_at_checked(at).ok_or(RecordError::Malformed)?;
        let (grant, other) = (Zeroizing::new(grant.to_vec()), Some(Zeroizing::new(other.to_vec())));
        Ok(Self { header, grant, other })
    }
}

impl GrantPurpose {
    pub fn of(connection: &ConnectionRecord) -> Self {
        Self {
            provider: connection.provider.clone(),
            auth: connection.method().to_owned(),
            variables: connection.variables.clone(),
        }
    }
}

impl GrantVerdict {
    /// A verdict without a retry time.
    pub fn new(reason: BrokenReason, detail: Option<String>) -> Self {
        Self {
            reason,
            detail,
            said: None,
            usable_until: None,
            request_fingerprint: None,
            retry_at: None,
            tries: 0,
        }
    }

    /// Whether no credential may be minted, not even for a test. A rejected secret may be tested; policy keeps it
    /// from agents.
    pub fn prevents_test(&self) -> bool {
        self.reason != BrokenReason::Rejected
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl GrantHeader {
    /// The header of a working grant.
    pub fn of(connection: &ConnectionRecord) -> Self {
        let purpose = GrantPurpose::of(connection);
        Self {
            purpose,
            broken: None,
            given: None,
            consent: None,
            app: None,
            untested: false,
            dates: None,
            on_trial: false,
            untestable: false,
            second: None,
            unknown: Map::new(),
        }
    }

    /// Appends a second grant.
    pub fn into_row(mut self, grant: &[u8], other: Option<(SecondGrant, &[u8])>) -> NewRow {
        let length = grant.len() + other.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let mut whole = Zeroizing::new(Vec::with_capacity(length));
        whole.extend_from_slice(grant);
        self.second = other.map(|(second, bytes)| {
            whole.extend_from_slice(bytes);
            SecondGrant { at: grant.len(), ..second }
        });
        NewRow { header: self, grants: whole }
    }
}

/// The row's key: `org_…/con_…`, or `org_…/app_…`.
pub fn key(org: &OrgId, id: &dyn Display) -> String {
    format!("{org}/{id}")
}

/// Seals a row for the version that will be written. An older value under the current version is detected.
///
/// # Errors
/// When the grant is too long to seal.
pub fn seal(
    sealing: &Sealing,
    place: &RowPlace<'_>,
    header: &impl Serialize,
    grant: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    let key = key(place.org, place.id);
    let plain = plaintext(place.version, header, grant);
    sealing.seal(&Place { org: place.org, table: Table::Grants.name(), key: &key }, &plain)
}

/// `row version (u64) ‖ header length (u32) ‖ header (JSON) ‖ grant`, numbers big endian.
fn plaintext(version: Version, header: &impl Serialize, grant: &[u8]) -> Zeroizing<Vec<u8>> {
    let header = serde_json::to_vec(header).expect("a header serialises");
    let length = u32::try_from(header.len()).expect("a header is short");
    let mut plain = Zeroizing::new(Vec::with_capacity(8 + 4 + header.len() + grant.len()));
    plain.extend_from_slice(&version.0.to_be_bytes());
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(&header);
    plain.extend_from_slice(grant);
    plain
}

/// Header and grant of a row, checked against its version.
///
/// # Errors
/// When it cannot be opened, is malformed or older.
pub fn unsealed<H: DeserializeOwned>(
    keyring: &Keyring,
    org: &OrgId,
    id: &dyn Display,
    row: &Row,
) -> Result<(H, Zeroizing<Vec<u8>>), RecordError> {
    let key = key(org, id);
    let place = Place { org, table: Table::Grants.name(), key: &key };
    parsed(&keyring.open(&place, &row.value)?, row.version)
}

/// Header and grant of an opened row, checked against its version.
///
/// # Errors
/// When it is malformed or older.
pub fn parsed<H: DeserializeOwned>(
    plain: &[u8],
    row: Version,
) -> Result<(H, Zeroizing<Vec<u8>>), RecordError> {
    let (version, rest) = plain.split_first_chunk::<8>().ok_or(RecordError::Malformed)?;
    if u64::from_be_bytes(*version) != row.0 {
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
    use keyward_model::{ConnectionFacts, ConnectionSpec, ManagedBy, Record};

    fn connection() -> ConnectionRecord {
        let spec = ConnectionSpec {
            name: "work".into(),
            provider: "acme".into(),
            auth: Some("key".into()),
            variables: BTreeMap::from([("shop".into(), "mine".into())]),
            ..ConnectionSpec::default()
        };
        let (org, facts) = (OrgId::default_org(), ConnectionFacts::default());
        Record::new(&org, ManagedBy::Store, spec, facts, Timestamp::UNIX_EPOCH)
    }

    async fn sealed(keyring: &Keyring, connection: &ConnectionRecord, version: u64) -> Vec<u8> {
        let (org, id, version) = (&connection.org, &connection.id, Version(version));
        let sealing = keyring.sealing().await;
        seal(&sealing, &RowPlace { org, id, version }, &GrantHeader::of(connection), b"grant")
            .unwrap()
    }

    fn opened(
        keyring: &Keyring,
        connection: &ConnectionRecord,
        value: Vec<u8>,
        version: u64,
    ) -> Result<Vec<u8>, RecordError> {
        let key = key(&connection.org, &connection.id);
        let row = Row { key, value, version: Version(version) };
        let (header, grants) = unsealed(keyring, &connection.org, &connection.id, &row)?;
        OpenedGrant::of(header, grants, &GrantPurpose::of(connection))
            .map(|opened| opened.grant.to_vec())
    }

    #[tokio::test]
    async fn a_header_keeps_the_members_of_a_newer_version() {
        let (keyring, connection) = (Keyring::ephemeral(), connection());
        let mut newer = serde_json::to_value(GrantHeader::of(&connection)).unwrap();
        newer["bound"] = serde_json::json!({"key": "k"});
        let (org, id, version) = (&connection.org, &connection.id, Version(1));
        let place = RowPlace { org, id, version };
        let value = seal(&keyring.sealing().await, &place, &newer, b"grant").unwrap();
        let row = Row { key: key(org, id), value, version };
        let (header, _) = unsealed::<GrantHeader>(&keyring, org, id, &row).unwrap();
        assert_eq!(serde_json::to_value(&header).unwrap(), newer);
        assert_eq!(header.purpose, GrantPurpose::of(&connection));
    }

    #[tokio::test]
    async fn an_older_grant_under_the_present_version_does_not_open() {
        let (keyring, connection) = (Keyring::ephemeral(), connection());
        let old = sealed(&keyring, &connection, 1).await;
        assert_eq!(opened(&keyring, &connection, old.clone(), 1).unwrap(), b"grant");
        let result = opened(&keyring, &connection, old, 2);
        assert!(matches!(result, Err(RecordError::RolledBack)), "{result:?}");
    }

    #[tokio::test]
    async fn a_grant_does_not_open_for_another_host_provider_or_connection() {
        let (keyring, connection) = (Keyring::ephemeral(), connection());
        let value = sealed(&keyring, &connection, 1).await;
        let value = || value.clone();
        let mut other = connection.clone();
        other.variables.insert("shop".into(), "thief".into());
        assert!(matches!(opened(&keyring, &other, value(), 1), Err(RecordError::Purpose)));
        other = connection.clone();
        other.provider = "evil".into();
        assert!(matches!(opened(&keyring, &other, value(), 1), Err(RecordError::Purpose)));
        other = connection.clone();
        other.id = ConnectionId::random();
        assert!(matches!(opened(&keyring, &other, value(), 1), Err(RecordError::Sealed(_))));
        assert!(opened(&Keyring::ephemeral(), &connection, value(), 1).is_err(), "another key");
    }
}
