//! Detects answers by which an upstream refuses a credential: 401, its gRPC equivalent, and what the provider's file
//! says.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, StatusCode, header};

use crate::gateway::Gateway;
use crate::refusal::RefusalFormat;
use crate::upstream::sent::SentRequest;
use keyward_rules::inject::credential::Credential;

/// UNAUTHENTICATED, <https://grpc.io/docs/guides/status-codes/>: the gRPC status for 401.
const UNAUTHENTICATED: &[u8] = b"16";

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The answer, and the credential if the answer refuses it.
pub async fn rejected_credential(
    gateway: &Gateway,
    sent: SentRequest,
    format: RefusalFormat,
) -> (SentRequest, Option<Arc<Credential>>) {
    let Some(credential) = sent.credential().cloned() else { return (sent, None) };
    let may_ask = matches!(sent.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if may_ask && gateway.vault.note_challenge(&credential, sent.headers()) {
        // Another token would lack it too.
        return (sent, None);
    }
    if is_rejection(&sent, format) {
        return (sent, Some(credential));
    }
    let status = sent.status().as_u16();
    let may_mean_it = credential.renews.is_some_and(|it| it.expired_status == Some(status));
    if !may_mean_it || !is_json(sent.headers()) {
        return (sent, None);
    }
    let (sent, beginning) = sent.peek_body().await;
    let whole = beginning.filter(|body| gateway.vault.means_expired(&credential, status, body));
    (sent, whole.map(|_| credential))
}

/// Whether the head of the answer refuses the credential.
pub fn is_rejection(sent: &SentRequest, format: RefusalFormat) -> bool {
    sent.status() == StatusCode::UNAUTHORIZED || is_unauthenticated(sent.headers(), format)
}

/// Whether a gRPC call was refused as unauthenticated: its status is in the head then.
fn is_unauthenticated(fields: &HeaderMap, format: RefusalFormat) -> bool {
    format == RefusalFormat::Grpc
        && fields.get(&GRPC_STATUS).is_some_and(|status| status.as_bytes() == UNAUTHENTICATED)
}

fn is_json(fields: &HeaderMap) -> bool {
    let coded = fields.contains_key(header::CONTENT_ENCODING);
    let kind = fields.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    !coded && kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}
