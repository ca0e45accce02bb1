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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::stream;

    use super::*;
    use keyward_net::evictable::PeerAddress;
    use keyward_proxy::{Budget, PerAgent};

    #[tokio::test]
    async fn a_buffer_grows_with_its_body_and_takes_no_more_memory_than_there_is() {
        let budget = Budget::new(64 * 1024, PerAgent::at_least(64 * 1024));
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| {
            let address = address.parse().expect("an address");
            budget.share_at(PeerAddress::of(Some(address)))
        });
        let pieces = |count: u8| {
            let pieces = (0..count).map(|n| Ok::<_, Infallible>(vec![n; 10 * 1024]));
            Body::from_stream(stream::iter(pieces.collect::<Vec<_>>()))
        };
        let (mut one, mut other) = (one, other);
        let read = collect(pieces(4), 1 << 20, Some(&mut one)).await.unwrap();
        let whole: Vec<u8> = (0..4).flat_map(|n| vec![n; 10 * 1024]).collect();
        assert!(*read == whole, "byte by byte");
        // It has 40 KiB.
        let refused = collect(pieces(3), 1 << 20, Some(&mut other)).await.unwrap_err();
        assert_eq!(refused, RequestRefusal::TooManyBodies.into());
        drop(one);
        assert!(collect(pieces(3), 1 << 20, Some(&mut other)).await.is_ok());
    }
}
