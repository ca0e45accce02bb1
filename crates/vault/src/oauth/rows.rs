//! The stored rows of consents other than flows: pointers to flows, forms of callbacks, and pending revocations.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::flow::SealedText;
use keyward_base::id::{AppId, FlowId};
use keyward_state::directory::{AppRecord, ConnectionRecord};

/// Maps a secret's hash to its flow.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Pointer {
    pub(super) flow: FlowId,
    pub(super) expires: Timestamp,
    /// Whether the form for this `state` was received by POST and stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) posted: bool,
}

/// A stored form of a callback by POST.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct FormPost {
    pub(super) app: AppId,
    pub(super) form: SealedText,
    pub(super) expires: Timestamp,
}

/// A pending revocation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct PendingRevocation {
    /// The removed record: provider, app, variables.
    pub(super) connection: ConnectionRecord,
    /// The encoded grant, base64.
    pub(super) grant: SealedText,
    /// The app at that time. Absent without an app, and in rows of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<PendingRevocationApp>,
    pub(super) until: Timestamp,
    /// When it was planned. The connection may still exist until its removal writes the row again without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) planned: Option<Timestamp>,
    /// Whether the response to a renewal of the grant was lost: tokens in it may be valid.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) answer_lost: bool,
}

/// The client of a pending revocation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct PendingRevocationApp {
    pub(super) record: AppRecord,
    /// The encoded secret, base64.
    pub(super) secret: SealedText,
}
