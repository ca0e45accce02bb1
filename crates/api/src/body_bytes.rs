//! Reads whole bodies, without copies that are not wiped.

use bytes::Buf;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use super::error::ApiError;

/// Reads the whole body into one buffer that is wiped when dropped. It has a fixed size, because growing it
/// would leave copies.
pub(super) async fn collect(
    mut body: axum::body::Body,
    max_bytes: usize,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let declared = usize::try_from(http_body::Body::size_hint(&body).lower()).unwrap_or(usize::MAX);
    if declared > max_bytes {
        return Err(ApiError::TooLarge { max_bytes });
    }
    let exact = http_body::Body::size_hint(&body).exact().is_some();
    let mut all = Zeroizing::new(Vec::with_capacity(if exact { declared } else { max_bytes }));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::Unreadable("the body was cut short".to_owned()))?;
        let Ok(mut data) = frame.into_data() else { continue };
        if all.len() + data.remaining() > max_bytes {
            return Err(ApiError::TooLarge { max_bytes });
        }
        while data.has_remaining() {
            let taken = data.chunk().len();
            all.extend_from_slice(data.chunk());
            data.advance(taken);
        }
    }
    Ok(all)
}
