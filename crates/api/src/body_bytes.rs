//! Reads whole bodies, without copies that are not wiped.

use bytes::Buf;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use super::error::ApiError;
use super::request_refusal::RequestRefusal;
use keyward_proxy::BudgetShare;

/// The first buffer of a body; most fit.
const FIRST_BYTES: usize = 16 * 1024;

/// Reads the whole body into a buffer that is wiped when dropped. `memory`: the part of a budget that the buffer takes.
pub(super) async fn collect(
    mut body: axum::body::Body,
    max_bytes: usize,
    mut memory: Option<&mut BudgetShare>,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let hint = http_body::Body::size_hint(&body);
    let declared = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
    if declared > max_bytes {
        return Err(ApiError::TooLarge { max_bytes });
    }
    let whole = if hint.exact().is_some() { declared } else { max_bytes };
    let mut all = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::Unreadable("the body was cut short".to_owned()))?;
        let Ok(mut data) = frame.into_data() else { continue };
        let bytes = all.len() + data.remaining();
        if bytes > max_bytes {
            return Err(ApiError::TooLarge { max_bytes });
        }
        if bytes > all.capacity() {
            let capacity = bytes.max(2 * all.capacity()).max(FIRST_BYTES).min(whole);
            if memory.as_mut().is_some_and(|memory| !memory.resize(capacity)) {
                return Err(RequestRefusal::TooManyBodies.into());
            }
            // The buffer before is wiped; growing it would leave a copy.
            let before = std::mem::replace(&mut *all, Vec::with_capacity(capacity));
            all.extend_from_slice(&Zeroizing::new(before));
        }
        while data.has_remaining() {
            let taken = data.chunk().len();
            all.extend_from_slice(data.chunk());
            data.advance(taken);
        }
    }
    Ok(all)
}
