//! Cuts the answer to a widened range to the part that the agent asked for.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::ext::ReasonPhrase;

use crate::body::incoming_body::IncomingBody;
use crate::limits::budget::BudgetShare;
use crate::refusal::Refusal;
use crate::upstream::{ended_early, protocol};
use keyward_rules::inject::scrub::range::{ByteRange, ContentRange, WIDENED_BYTES_MAX};
use keyward_rules::inject::scrub::{InspectError, Masker, fields};

/// How long a part may take. It has at most [`WIDENED_BYTES_MAX`] bytes.
const PART_WITHIN: Duration = Duration::from_secs(30);

/// Reads the part, masks it, and cuts it to `range`. Returns the number of matches too. If nothing of `range` came,
/// because the whole ends before it, the answer becomes 416. `memory` counts the part until it is cut.
///
/// # Errors
/// When the part is not what was asked for, does not arrive, or no memory is left for it.
pub async fn cut(
    response: Response<IncomingBody>,
    range: ByteRange,
    masker: &mut Masker,
    memory: &mut BudgetShare,
) -> Result<(Response<Bytes>, u64), Refusal> {
    let (mut head, body) = response.into_parts();
    let part = ContentRange::of(&head.headers);
    let part = part.ok_or_else(|| protocol("its `Content-Range` cannot be read"))?;
    if part.length() > WIDENED_BYTES_MAX {
        return Err(protocol("its part is more than was asked for"));
    }
    // The body, and what is masked of it.
    if !memory.resize(2 * position(part.length())) {
        return Err(InspectError::NoMemory.into());
    }
    let read = tokio::time::timeout(PART_WITHIN, read(body, part.length()));
    let bytes = read.await.map_err(|_| Refusal::AnswerTimeout)??;
    let mut masked = BytesMut::from(masker.push(bytes));
    masked.extend_from_slice(&masker.finish());
    let found = masker.take_masked();
    fields::without_part_digests(&mut head.headers);
    if found > 0 {
        fields::without_digests(&mut head.headers);
    }
    let bytes = match range.of_part(part) {
        Some(asked) => {
            head.headers.insert(header::CONTENT_RANGE, asked.to_value());
            let positions = part.positions_of(asked);
            masked.freeze().slice(position(positions.start)..position(positions.end))
        }
        None => {
            head.status = StatusCode::RANGE_NOT_SATISFIABLE;
            head.extensions.remove::<ReasonPhrase>();
            head.headers.insert(header::CONTENT_RANGE, part.unsatisfied());
            Bytes::new()
        }
    };
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok((Response::from_parts(head, bytes), found))
}

/// A position or length in a part, which is short.
fn position(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Reads a body of exactly `length` bytes to its end.
async fn read(mut body: IncomingBody, length: u64) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ended_early)?.into_data() else { continue };
        bytes.extend_from_slice(&data);
        if bytes.len() as u64 > length {
            break;
        }
    }
    match bytes.len() as u64 == length {
        true => Ok(bytes.freeze()),
        false => Err(protocol("its length is not that of its `Content-Range`")),
    }
}
